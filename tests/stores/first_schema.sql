CREATE TABLE users (
    folded VARCHAR(512) NOT NULL PRIMARY KEY, username VARCHAR(128) NOT NULL, email VARCHAR(254) NOT NULL,
    full_name VARCHAR(256) NOT NULL, password_hash TEXT NOT NULL, scopes TEXT NOT NULL, roles TEXT NOT NULL,
    disabled BOOLEAN NOT NULL, created {double} NOT NULL
);
CREATE TABLE refresh_families (
    id VARCHAR(32) NOT NULL PRIMARY KEY, subject VARCHAR(512) NOT NULL, scopes TEXT NOT NULL,
    digest VARCHAR(64) NOT NULL, begun {double} NOT NULL, expires {double} NOT NULL
);
CREATE INDEX ix_refresh_families_subject ON refresh_families (subject);
CREATE INDEX ix_refresh_families_expires ON refresh_families (expires);
CREATE TABLE access_tokens (
    id VARCHAR(256) NOT NULL PRIMARY KEY, family VARCHAR(32) NOT NULL, expires {double} NOT NULL
);
CREATE INDEX ix_access_tokens_family ON access_tokens (family);
CREATE INDEX ix_access_tokens_expires ON access_tokens (expires);
CREATE TABLE revocations (
    id {id}, kind VARCHAR(16) NOT NULL, value VARCHAR(512) NOT NULL, moment {double} NOT NULL, until {double} NOT NULL
);
CREATE INDEX ix_revocations_until ON revocations (until);
INSERT INTO users VALUES ('ann', 'Ann', 'ann@a.test', 'Ann A', '{hash}', 'read', 'clerk', false, 1.0);
INSERT INTO refresh_families VALUES ('00000000000000000000000000000000', 'Ann', 'read',
    '83ce4771dbe62cf1e34251a43c8af2b2327a5f3f1be18dd6ea931a969f943490', 1.0, 9999999999.0);
INSERT INTO access_tokens VALUES ('a1', '00000000000000000000000000000000', 9999999999.0);
INSERT INTO revocations (kind, value, moment, until) VALUES ('id', 'revoked', 9999999999.0, 9999999999.0);
