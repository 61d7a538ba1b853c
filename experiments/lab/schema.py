"""The one schema of a store, its version, and how older files are brought up to it."""

from __future__ import annotations

import sqlite3

VERSION = 2

_TABLES = (
    """
    CREATE TABLE environments (
        id INTEGER PRIMARY KEY,
        facts TEXT UNIQUE NOT NULL   -- JSON object: versions, host, processor, commit
    ) STRICT
    """,
    """
    CREATE TABLE runs (
        key TEXT PRIMARY KEY,        -- hash of settings, files and code
        study TEXT NOT NULL,         -- the study that computed it first
        kind TEXT NOT NULL,          -- class of the run
        label TEXT NOT NULL,         -- a few words for people
        settings TEXT NOT NULL,      -- repr of the run: evaluates back to it
        status TEXT NOT NULL CHECK (status IN ('done', 'failed')),
        metrics TEXT NOT NULL,       -- JSON object of numbers; "nan", "inf", "-inf" as text
        curves TEXT NOT NULL,        -- JSON object of lists of numbers, one entry an epoch
        error TEXT,                  -- what a failed run raised
        seconds REAL NOT NULL,
        finished TEXT NOT NULL,      -- UTC
        environment INTEGER NOT NULL REFERENCES environments (id)
    ) STRICT
    """,
    """
    CREATE TABLE artefacts (
        key TEXT PRIMARY KEY REFERENCES runs (key) ON DELETE CASCADE,
        bytes INTEGER NOT NULL       -- of networks/<key>.pt
    ) STRICT
    """,
    """
    CREATE TABLE claims (
        key TEXT PRIMARY KEY,        -- a run that some process is at
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started REAL NOT NULL        -- when that process began, so that its number is not another's
    ) STRICT
    """,
    "CREATE INDEX runs_by_study ON runs (study, kind)",
)


class NewerSchema(RuntimeError):
    """The file was written by a later version of this program."""


def prepare(db: sqlite3.Connection) -> None:
    """Bring a new or older file to this version, all or nothing."""
    if version(db) == VERSION:
        return
    db.execute("BEGIN IMMEDIATE")  # another process may be at it
    try:
        found = version(db)
        if found > VERSION:
            raise NewerSchema(f"schema {found}, and this program knows {VERSION}")
        if found < VERSION:
            for table in _TABLES:
                db.execute(table)
            if "results" in _names(db):
                _from_first(db)
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def version(db: sqlite3.Connection) -> int:
    """Version of the schema of a file, 0 where there is none or that of before versions."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _names(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _from_first(db: sqlite3.Connection) -> None:
    """From the single table of before: numbers that JSON lacks were bare words there."""
    db.execute("INSERT OR IGNORE INTO environments (facts) SELECT DISTINCT versions FROM results")
    bare = "replace(replace(replace({}, '-Infinity', '\"-inf\"'), 'Infinity', '\"inf\"'), "
    bare += "'NaN', '\"nan\"')"
    metrics, curves = bare.format("metrics"), bare.format("curves")
    db.execute(
        "INSERT INTO runs SELECT key, study, kind, kind, settings, 'done', "
        f"{metrics}, {curves}, NULL, seconds, finished, "
        "(SELECT id FROM environments WHERE facts = versions) FROM results"
    )
    # the length of these files was not kept: -1 is whatever there is
    db.execute("INSERT INTO artefacts SELECT key, -1 FROM results WHERE network = 1")
    db.execute("DROP TABLE results")
