PRAGMA application_id=1347638347;
PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE commits (
    number INTEGER PRIMARY KEY,
    position INTEGER NOT NULL,
    recorded_at TEXT NOT NULL,
    body TEXT NOT NULL,
    digest BLOB NOT NULL
);
INSERT INTO "commits" VALUES(1,1,'2026-11-28T02:06:32.495212Z','[{"type":"Open","key":"ann","events":[{"type":"Opened","account":"ann"}]},{"type":"Open","key":"bob","offset":1,"events":[{"type":"Opened","account":"bob"}]}]',X'8DE9C7726156989FD73715D3D1E949261CC941997C10A6F44A657E16786E8A32');
INSERT INTO "commits" VALUES(2,3,'2026-11-28T02:06:32.496437Z','[{"type":"Deposit","key":"ann","id":"d-1","payload":"ac28e3aa3520c3fcdf8e731202e69aed","actor":"web","events":[{"type":"Deposited","account":"ann","amount":100}]}]',X'1D5F302541D635FCEF1B8F1D065067EF274425F4EFB160340384079957D47145');
INSERT INTO "commits" VALUES(3,4,'2026-11-28T02:06:32.497186Z','[{"type":"Transfer","key":"ann","id":"t-1","payload":"a7e4e0139744d019f59b2067fc75d584","keys":["ann","bob"],"events":[{"type":"Withdrawn","account":"ann","amount":30},{"type":"Deposited","account":"bob","amount":30}]}]',X'3BA35CA722E697C5668ADBDB6BAE6E93D0C0D55AFD810CEB8FE7CB2F533490C3');
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('application','bank');
INSERT INTO "meta" VALUES('format','1');
CREATE VIEW events AS
SELECT
    commits.position + coalesce(json_extract(command.value, '$.offset'), 0) + event.key AS position,
    commits.number AS number,
    commits.recorded_at AS recorded_at,
    json_extract(event.value, '$.type') AS type,
    CASE
        WHEN json_type(command.value, '$.keys') IS NULL THEN json_extract(command.value, '$.key')
        ELSE json_extract(command.value, '$.keys[' || event.key || ']')
    END AS key,
    event.value AS data,
    json_extract(command.value, '$.id') AS command_id
FROM commits, json_each(commits.body) AS command, json_each(command.value, '$.events') AS event;
COMMIT;
