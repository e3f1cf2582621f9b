-- What was added to the catalog of models while Salon runs. Entries of salon.toml stand in the file; these win.

CREATE TABLE upstreams (
    name TEXT PRIMARY KEY,
    -- JSON in the shape of an [upstreams.NAME] table; never a secret.
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE models (
    name TEXT PRIMARY KEY,
    -- JSON in the shape of a [models.NAME] table.
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE prices (
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    -- The first day, in UTC, as YYYY-MM-DD.
    valid_from TEXT NOT NULL,
    -- JSON: dollars for a million tokens, as text.
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (provider, model, valid_from)
);

-- Raised by every change, so that others see with one small read whether there is anything new.
CREATE TABLE catalog (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL
);

INSERT INTO catalog (id, revision) VALUES (1, 0);
