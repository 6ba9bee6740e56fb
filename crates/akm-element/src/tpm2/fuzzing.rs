//! Doors for the fuzz targets into the reader of the file, apart from disk and TPM.

use zeroize::Zeroizing;

use super::state::{State, sample};

/// Reads a file and emits it again; `None` if it is refused.
pub fn reread_state(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    State::parse(bytes).ok().map(|state| state.emit())
}

/// A file with roots whose areas are this long.
pub fn emit_state(index: u32, is_made: bool, lengths: &[usize]) -> Zeroizing<Vec<u8>> {
    sample(index, is_made, lengths).emit()
}
