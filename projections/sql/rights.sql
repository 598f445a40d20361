-- Statements of grants.py and roles.py: what the catalogue says about rights. Owners are left out: they may do everything.

-- name: roles
-- Those of these roles that exist.
SELECT rolname::text FROM pg_roles WHERE rolname = ANY (%(roles)s);

-- name: tables
-- The tables of those of these schemas that exist.
SELECT nspname::text, array_remove(array_agg(relname::text), NULL)
FROM pg_namespace LEFT JOIN pg_class ON relnamespace = pg_namespace.oid AND relkind IN ('r', 'p')
WHERE nspname = ANY (%(schemas)s) GROUP BY nspname ORDER BY nspname;

-- name: grants
-- What these roles, and everybody, may do with these schemas, their tables, and columns of them.
WITH entries AS (
    SELECT nspacl AS acl, nspowner AS owner, nspname AS schema, '' AS name, '' AS column_name
    FROM pg_namespace WHERE nspname = ANY (%(schemas)s)
    UNION ALL
    SELECT relacl, relowner, nspname, relname, ''
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = ANY (%(schemas)s) AND relkind IN ('r', 'p', 'v', 'm')
    UNION ALL
    SELECT attacl, relowner, nspname, relname, attname
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = ANY (%(schemas)s) AND attacl IS NOT NULL AND NOT attisdropped
)
SELECT CASE WHEN grantee = 0 THEN 'everybody' ELSE pg_get_userbyid(grantee)::text END,
       privilege_type, schema::text, name::text, column_name::text
FROM entries CROSS JOIN LATERAL aclexplode(acl)
WHERE grantee <> owner AND (grantee = 0 OR pg_get_userbyid(grantee)::text = ANY (%(roles)s))
ORDER BY 1, 3, 4, 5, 2;

-- name: secured
-- Tables of these schemas whose rows are shown by policy.
SELECT nspname::text, relname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = ANY (%(schemas)s) AND relrowsecurity ORDER BY 1, 2;

-- name: policies
-- The policies on tables of these schemas.
SELECT schemaname::text, tablename::text, policyname::text FROM pg_policies
WHERE schemaname = ANY (%(schemas)s) ORDER BY 1, 2, 3;

-- name: attributes
-- What these roles may do everywhere, and which other roles they are members of.
SELECT rolname::text, rolcanlogin,
       rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls AS mighty,
       ARRAY(SELECT pg_get_userbyid(roleid)::text FROM pg_auth_members WHERE member = pg_roles.oid) AS member_of
FROM pg_roles WHERE rolname = ANY (%(roles)s);

-- name: database_grants
-- What these roles, and everybody, may do with this database.
SELECT CASE WHEN grantee = 0 THEN 'everybody' ELSE pg_get_userbyid(grantee)::text END, privilege_type
FROM pg_database CROSS JOIN LATERAL aclexplode(coalesce(datacl, acldefault('d', datdba)))
WHERE datname = current_database() AND grantee <> datdba
  AND (grantee = 0 OR pg_get_userbyid(grantee)::text = ANY (%(roles)s))
ORDER BY 1, 2;

-- name: owners
-- What is in these schemas, and the schemas themselves: kind, name as SQL has it, owner.
SELECT 'SCHEMA', quote_ident(nspname), pg_get_userbyid(nspowner)::text FROM pg_namespace WHERE nspname = ANY (%(schemas)s)
UNION ALL
SELECT 'TABLE', format('%%I.%%I', nspname, relname), pg_get_userbyid(relowner)::text
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = ANY (%(schemas)s) AND relkind IN ('r', 'p', 'v', 'm')
UNION ALL
SELECT 'FUNCTION', format('%%I.%%I(%%s)', nspname, proname, pg_get_function_identity_arguments(pg_proc.oid)),
       pg_get_userbyid(proowner)::text
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace WHERE nspname = ANY (%(schemas)s)
ORDER BY 1, 2;
