//! Doors into what is private otherwise: readers for the fuzz targets, and store and vault for tests that look for secrets.

pub use crate::ceremony::{configuration, read_preparation};
pub use crate::store::Store;
pub use crate::vault::Vault;
pub use crate::vault::reread_vault_file;
