-- What senders are told: a fold of restante.receipts. Positions are offsets in the sender's partition of that topic; `at_ms` is
-- when the recipient's fact was appended. A message has one row, or Delivered and then Read. The account is part of the second
-- key so that no row depends on another partition's, whatever a writer puts there.
CREATE TABLE receipts (
    account uuid NOT NULL,
    position bigint NOT NULL,
    message_id uuid NOT NULL,
    recipient uuid NOT NULL,
    outcome text NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (account, position),
    UNIQUE (message_id, outcome, account)
);
