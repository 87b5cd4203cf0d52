-- Tokens of issuers by which agents have attested: each belongs to the first key that showed it.
CREATE TABLE issuers_tokens (
    token_sha256 BYTEA PRIMARY KEY CHECK (length(token_sha256) = 32),
    bound_key BYTEA NOT NULL CHECK (length(bound_key) = 32),
    expires_at BIGINT NOT NULL
);
CREATE INDEX issuers_tokens_by_end ON issuers_tokens (expires_at);
UPDATE schema SET version = 5;
