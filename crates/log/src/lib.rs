//! API stub, being filled in.
use std::{io, path::{Path, PathBuf}};
#[derive(Debug, Clone)]
pub struct LogConfig { pub dir: PathBuf, pub segment_bytes: u64, pub max_record_bytes: u32 }
impl LogConfig { pub fn at(_dir: impl Into<PathBuf>) -> Self { todo!() } }
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError { #[error("io")] Io(#[from] io::Error), #[error("full")] Full, #[error("corrupt")] Corrupt { segment: u64, offset: u64 }, #[error("large")] TooLarge, #[error("closed")] Closed, #[error("locked")] Locked, #[error("index")] Index }
#[derive(Debug, Clone)]
pub struct Log;
impl Log {
    pub fn open(_config: LogConfig) -> Result<Log, LogError> { todo!() }
    pub async fn append(&self, _record: Vec<u8>) -> Result<u64, LogError> { todo!() }
    pub fn append_blocking(&self, _record: Vec<u8>) -> Result<u64, LogError> { todo!() }
    pub fn read(&self, _sequence: u64) -> Result<Option<Vec<u8>>, LogError> { todo!() }
    pub fn len(&self) -> u64 { todo!() }
    pub fn is_empty(&self) -> bool { self.len() == 0 }
    pub fn iter_from(&self, _sequence: u64) -> impl Iterator<Item = Result<(u64, Vec<u8>), LogError>> + '_ { std::iter::empty() }
}
pub mod index {
    use super::*;
    /// Writes of one record; reads see earlier writes of the same batch.
    #[derive(Debug)]
    pub struct Batch;
    impl Batch {
        pub fn get(&self, _key: &[u8]) -> Option<Vec<u8>> { todo!() }
        pub fn insert(&mut self, _key: &[u8], _value: &[u8]) { todo!() }
        pub fn remove(&mut self, _key: &[u8]) { todo!() }
    }
    #[derive(Debug)]
    pub struct Index;
    impl Index {
        pub fn open(_dir: &Path, _schema: &str, _log: &Log, _apply: impl Fn(u64, &[u8], &mut Batch) + Send + Sync + 'static) -> Result<Index, LogError> { todo!() }
        pub fn apply(&self, _sequence: u64, _record: &[u8]) -> Result<(), LogError> { todo!() }
        pub fn get(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, LogError> { todo!() }
        pub fn scan_prefix(&self, _prefix: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), LogError>> + '_ { std::iter::empty() }
    }
}
pub mod durable {
    use super::*;
    pub fn write_atomic(_path: &Path, _bytes: &[u8], _mode: u32) -> io::Result<()> { todo!() }
    pub fn create_new(_path: &Path, _bytes: &[u8], _mode: u32) -> io::Result<()> { todo!() }
    pub fn sync_dir(_path: &Path) -> io::Result<()> { todo!() }
    pub fn create_dir_all(_path: &Path, _mode: u32) -> io::Result<()> { todo!() }
    pub fn remove(_path: &Path) -> io::Result<()> { todo!() }
}
