//! An original as it was received, wherever it stands on its way: for the archive.

use super::sealed::{SealedReader, Slot};
use super::{Id, Spool};
use crate::error::SpoolError;
use crate::keys::{self, KeyError};

/// Its key may be wrapped anew while we look for the wrapping that is there.
const ROUNDS: usize = 3;

impl Spool {
    /// Opens the Part 10 file of an object, whichever key wraps its key now. Once open, it can be read
    /// to its end: what is not at the archive is not erased.
    ///
    /// # Errors
    /// [`SpoolError::Missing`], [`SpoolError::Sealed`] or a [`KeyError::Opening`] when there is nothing
    /// to be read any more.
    pub(crate) fn open_original(&self, object: Id) -> Result<SealedReader, SpoolError> {
        let study = self.worklist().object(object).map(|one| one.stored.study);
        let study = study.ok_or(SpoolError::Missing { object })?;
        let dir = self.objects();
        let mut result = Err(SpoolError::Key(KeyError::Opening));
        for _ in 0..ROUNDS {
            for wrapping in self.keys().wrappings() {
                result = SealedReader::open(&dir, object, wrapping, Slot::Receive);
                if !matches!(result, Err(SpoolError::Key(_))) {
                    return result;
                }
            }
            // Not made here: an object that is not assembled needs none.
            if self.study_key_file(study).exists() {
                let key = self.study_key(study)?;
                let cipher = keys::cipher(&key);
                result = SealedReader::open(&dir, object, &cipher, Slot::Study);
                if !matches!(result, Err(SpoolError::Key(_))) {
                    return result;
                }
            }
        }
        result
    }
}
