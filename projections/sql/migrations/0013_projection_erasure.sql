-- Messages that ended with their recipient's account and whose senders have yet to be told: from AccountErased (or, for one
-- that came after it, from its MessageStored) to MessagesErased.
CREATE TABLE untold (
    account uuid NOT NULL,
    position bigint NOT NULL,
    message_id uuid NOT NULL,
    sender uuid NOT NULL,
    PRIMARY KEY (account, position)
);
