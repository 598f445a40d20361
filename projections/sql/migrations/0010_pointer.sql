-- Which of the two places (projections.pointer) holds the projection that everybody reads. A rebuild fills the other one and
-- changes this row; `building` says that the other one is a rebuild that has not come to its end.
CREATE TABLE projection (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    live text NOT NULL CHECK (live IN ('projection', 'projection_2')),
    building boolean NOT NULL DEFAULT false
);
INSERT INTO projection (live) VALUES ('projection');
