//! Doors for the fuzz targets into readers that are private otherwise.

pub use crate::ceremony::{configuration, read_preparation};
pub use crate::vault::reread_vault_file;
