-- Panels: several models that answer together, as people and organisations arrange them.

CREATE TABLE panels (
    id TEXT PRIMARY KEY,
    -- `org:<id>` or `user:<id>`.
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    -- JSON, as salon::panels writes it.
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (owner, name)
);

-- Who reads texts with e-mail addresses, phones and the like taken out: `off`, `logs` or `all`.
ALTER TABLE orgs ADD COLUMN mask TEXT NOT NULL DEFAULT 'off';
