//! Bytes as a TPM writes and reads them: big-endian integers, and byte strings after a `u16` length.

use zeroize::Zeroizing;

/// The longest command or answer; every TPM has at least this.
pub(super) const FRAME_LENGTH_MAX: usize = 4096;

/// Writes what a TPM reads. It never grows, so that no copy of a secret is left behind.
pub(super) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    pub(super) fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(FRAME_LENGTH_MAX)))
    }

    pub(super) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Bytes as they are. More than a frame takes is a mistake of the caller: all that is written here is
    /// bounded.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        assert!(self.0.len() + bytes.len() <= FRAME_LENGTH_MAX, "a frame of a TPM is too long");
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes after their length (`TPM2B`).
    pub(super) fn sized(&mut self, bytes: &[u8]) -> &mut Self {
        assert!(bytes.len() <= FRAME_LENGTH_MAX, "a frame of a TPM is too long");
        self.u16(bytes.len() as u16).bytes(bytes)
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }

    pub(super) fn into_secret(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    /// What was written, where nothing of it is secret.
    pub(super) fn into_public(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

/// The bytes are not what a TPM writes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads what a TPM wrote.
pub(super) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'b [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Bytes after their length (`TPM2B`).
    pub(super) fn sized(&mut self) -> Result<&'b [u8], Malformed> {
        let length = self.u16()?;
        self.bytes(length.into())
    }

    /// Nothing may follow.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}
