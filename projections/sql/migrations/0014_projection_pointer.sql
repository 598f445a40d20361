-- True, or an error (RS002) where the asking statement looks into a schema that is not the live projection in its snapshot.
CREATE FUNCTION live() RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF (SELECT live FROM pointer.projection) IS DISTINCT FROM current_schema()::text THEN
        RAISE EXCEPTION 'schema % is not the live projection', current_schema() USING ERRCODE = 'RS002';
    END IF;
    RETURN true;
END
$$;

-- True, or an error: RS002 as above, RS001 where the snapshot of the asking statement has not reached these offsets. It raises
-- because a false would turn an answer that is too early into an answer that is too short.
CREATE OR REPLACE FUNCTION reached(asked_topic text, asked_partitions smallint[], ends bigint[]) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    here boolean;
    missed smallint;
BEGIN
    IF cardinality(asked_partitions) = 0 THEN
        RETURN live();
    END IF;
    SELECT live = current_schema()::text, (
        SELECT asked.partition
        FROM unnest(asked_partitions, ends) AS asked(partition, least_offset)
        LEFT JOIN offsets ON offsets.topic = asked_topic AND offsets.partition = asked.partition
        WHERE coalesce(offsets.next_offset, 0) < asked.least_offset
        LIMIT 1)
    INTO here, missed FROM pointer.projection;
    IF here IS NOT TRUE THEN
        RAISE EXCEPTION 'schema % is not the live projection', current_schema() USING ERRCODE = 'RS002';
    END IF;
    IF missed IS NOT NULL THEN
        RAISE EXCEPTION 'partition % has not been folded that far', missed USING ERRCODE = 'RS001';
    END IF;
    RETURN true;
END
$$;
