//! The file: one row per build, with its record as JSON, and the logs of the latest builds, compressed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::types::FromSql;
use rusqlite::{Connection, ErrorCode, OptionalExtension, ToSql, params};

use crate::error::HistoryError;
use crate::record::{Record, VERSION};

/// Version of the tables, kept as SQLite's `user_version`.
const FORM: i64 = 1;
/// How long another process may hold the file.
const PATIENCE: Duration = Duration::from_secs(5);
/// Level of zstd for logs: they are text, and nobody waits for more.
const LEVEL: i32 = 3;
/// Largest log that is read back, in bytes: a damaged one must not fill the memory.
const LARGEST_LOG: usize = 1 << 30;
/// The latest builds, as many as a hint has room for.
const HINTED: usize = 3;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS builds (id TEXT PRIMARY KEY, started INTEGER NOT NULL, record TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS builds_by_start ON builds (started);
CREATE TABLE IF NOT EXISTS logs (
    build TEXT NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    zstd BLOB NOT NULL,
    PRIMARY KEY (build, name)
) STRICT;
";

/// The records of a project's builds.
#[derive(Debug)]
pub struct History {
    connection: Connection,
    path: PathBuf,
}

/// The full log of one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Name of the platform, as folders are named: `linux_arm64`.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Records.
    pub records: usize,
    /// Builds whose logs are kept.
    pub logs: usize,
}

impl Default for Keep {
    fn default() -> Self {
        Self { records: 1000, logs: 30 }
    }
}

impl History {
    /// Opens a history, which begins if it is not there.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let started = Instant::now();
        loop {
            match Self::try_open(path) {
                // Of two that begin a file at once, SQLite lets neither wait for the other to turn on the log that is
                // written ahead: one is refused at once.
                Err(HistoryError::Database { source, .. })
                    if source.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && started.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(5));
                }
                result => return result,
            }
        }
    }

    fn try_open(path: &Path) -> Result<Self, HistoryError> {
        let failed = |source| HistoryError::Database { action: "open", path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(PATIENCE).map_err(failed)?;
        // A log that is written ahead needs no wait for the disk at each build; a lost record costs nothing.
        let modes = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;";
        connection.execute_batch(modes).map_err(failed)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if version > FORM {
            return Err(HistoryError::Newer { path: path.to_owned(), version });
        }
        if version < FORM {
            let make = format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {FORM}; COMMIT;");
            connection.execute_batch(&make).map_err(failed)?;
        }
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Opens a history if there is one: a question makes no file.
    pub fn open_if_there(path: &Path) -> Result<Option<Self>, HistoryError> {
        if path.exists() { Self::open(path).map(Some) } else { Ok(None) }
    }

    /// Writes a record down with its logs, and forgets what is beyond `keep`. A record of the same id is replaced.
    pub fn add(&mut self, record: &Record, logs: &[Log], keep: Keep) -> Result<(), HistoryError> {
        let json = to_json(record);
        let packed = logs.iter().map(|log| {
            let packed = zstd::bulk::compress(log.text.as_bytes(), LEVEL);
            packed.map(|packed| (log.name.as_str(), packed))
        });
        let packed: Vec<_> = packed.collect::<Result<_, _>>()?;
        self.write(|connection| {
            insert(connection, record, &json)?;
            for (name, packed) in &packed {
                let sql = "INSERT OR REPLACE INTO logs (build, name, zstd) VALUES (?1, ?2, ?3)";
                connection.execute(sql, params![record.id, name, packed])?;
            }
            forget(connection, keep)
        })
    }

    /// Adds records from elsewhere that are not here, and says how many those were.
    pub fn merge(&mut self, records: &[Record], keep: Keep) -> Result<usize, HistoryError> {
        let known = records.iter().filter(|record| record.version <= VERSION);
        let known: Vec<(&Record, String)> = known.map(|record| (record, to_json(record))).collect();
        self.write(|connection| {
            let mut added = 0;
            for (record, json) in &known {
                let sql = "INSERT OR IGNORE INTO builds (id, started, record) VALUES (?1, ?2, ?3)";
                added += connection.execute(sql, params![record.id, record.started, json])?;
            }
            forget(connection, keep)?;
            Ok(added)
        })
    }

    /// The latest builds, newest first.
    ///
    /// Errors: the file cannot be read. A record that a later kiln wrote is left out.
    pub fn latest(&self, limit: usize) -> Result<Vec<Record>, HistoryError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = "SELECT id, record FROM builds ORDER BY started DESC, id DESC LIMIT ?1";
        let rows: Vec<(String, String)> = self.pairs(sql, limit)?;
        let records = rows.into_iter().map(|(id, json)| from_json(&id, &json));
        records.filter_map(Result::transpose).collect()
    }

    /// The build that a name stands for: an id or its beginning, `last`, or `last~N` for the one N before it.
    pub fn find(&self, name: &str) -> Result<Record, HistoryError> {
        if let Some(back) = steps_back(name) {
            return match self.latest(back + 1)?.into_iter().nth(back) {
                Some(record) => Ok(record),
                None => Err(self.not_found(name)?),
            };
        }
        // A name is compared as text, not as a pattern.
        let sql = "SELECT id, record FROM builds WHERE substr(id, 1, length(?1)) = ?1 ORDER BY started DESC";
        let mut rows: Vec<(String, String)> = self.pairs(sql, name)?;
        if let Some(exact) = rows.iter().position(|(id, _)| id == name) {
            rows = vec![rows.swap_remove(exact)];
        }
        match rows.as_slice() {
            [(id, json)] if !name.is_empty() => match from_json(id, json)? {
                Some(record) => Ok(record),
                None => Err(self.not_found(name)?),
            },
            [] | [_] => Err(self.not_found(name)?),
            several => Err(HistoryError::Ambiguous {
                name: name.to_owned(),
                ids: several.iter().map(|(id, _)| id.clone()).collect(),
            }),
        }
    }

    /// The full logs of a build; none if they were not kept.
    pub fn logs(&self, id: &str) -> Result<Vec<Log>, HistoryError> {
        let rows: Vec<(String, Vec<u8>)> =
            self.pairs("SELECT name, zstd FROM logs WHERE build = ?1 ORDER BY name", id)?;
        let unpack = |(name, packed): (String, Vec<u8>)| {
            let damaged = |source: std::io::Error| HistoryError::Damaged { id: id.to_owned(), source: source.into() };
            let bytes = zstd::bulk::decompress(&packed, capacity(&packed)).map_err(damaged)?;
            Ok(Log { name, text: String::from_utf8_lossy(&bytes).into_owned() })
        };
        rows.into_iter().map(unpack).collect()
    }

    fn not_found(&self, name: &str) -> Result<HistoryError, HistoryError> {
        let latest = self.latest(HINTED)?.into_iter().map(|record| record.id).collect();
        Ok(HistoryError::NotFound { name: name.to_owned(), latest })
    }

    /// The rows of a question with one parameter and two columns.
    fn pairs<A: FromSql, B: FromSql>(&self, sql: &str, parameter: impl ToSql) -> Result<Vec<(A, B)>, HistoryError> {
        let ask = || -> rusqlite::Result<Vec<(A, B)>> {
            let mut statement = self.connection.prepare(sql)?;
            let rows = statement.query_map([parameter], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        ask().map_err(|source| self.failed("read", source))
    }

    /// Does everything or nothing.
    fn write<T>(&mut self, write: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, HistoryError> {
        let attempt = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let result = write(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        attempt(&mut self.connection).map_err(|source| self.failed("write", source))
    }

    fn failed(&self, action: &'static str, source: rusqlite::Error) -> HistoryError {
        HistoryError::Database { action, path: self.path.clone(), source }
    }
}

fn insert(connection: &Connection, record: &Record, json: &str) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO builds (id, started, record) VALUES (?1, ?2, ?3)";
    connection.execute(sql, params![record.id, record.started, json]).map(drop)
}

fn forget(connection: &Connection, keep: Keep) -> rusqlite::Result<()> {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let sql = "DELETE FROM builds WHERE id NOT IN (SELECT id FROM builds ORDER BY started DESC, id DESC LIMIT ?1)";
    let all: i64 = connection.query_row("SELECT count(*) FROM builds", [], |row| row.get(0))?;
    if all > count(keep.records) {
        connection.execute(sql, [count(keep.records)])?;
    }
    let sql = "SELECT started FROM builds WHERE id IN (SELECT build FROM logs) ORDER BY started DESC LIMIT 1 OFFSET ?1";
    let oldest: Option<i64> = connection.query_row(sql, [count(keep.logs)], |row| row.get(0)).optional()?;
    if let Some(oldest) = oldest {
        let sql = "DELETE FROM logs WHERE build IN (SELECT id FROM builds WHERE started <= ?1)";
        connection.execute(sql, [oldest])?;
    }
    Ok(())
}

/// How many builds before the last one a name means: `last`, `last~2`.
fn steps_back(name: &str) -> Option<usize> {
    match name.strip_prefix("last")? {
        "" => Some(0),
        rest => rest.strip_prefix('~')?.parse().ok(),
    }
}

fn capacity(packed: &[u8]) -> usize {
    let told = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    told.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(LARGEST_LOG).min(LARGEST_LOG)
}

fn to_json(record: &Record) -> String {
    serde_json::to_string(record).expect("a record is plain data")
}

/// A record, if it is of a form that is known.
fn from_json(id: &str, json: &str) -> Result<Option<Record>, HistoryError> {
    #[derive(serde::Deserialize)]
    struct Form {
        version: u32,
    }
    let damaged = |source: serde_json::Error| HistoryError::Damaged { id: id.to_owned(), source: source.into() };
    let form: Form = serde_json::from_str(json).map_err(damaged)?;
    if form.version > VERSION {
        return Ok(None);
    }
    serde_json::from_str(json).map(Some).map_err(damaged)
}
