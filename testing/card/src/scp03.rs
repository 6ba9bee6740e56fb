//! The card's side of SCP03 (`docs/card.md`, section 7).

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use cmac::{Cmac, Mac};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::keys::StaticKeys;

/// Bytes of a cryptogram, a challenge and a MAC.
pub(crate) const SHORT: usize = 8;

type Key = Zeroizing<[u8; 16]>;

/// A channel that INITIALIZE UPDATE has opened.
pub(crate) struct Channel {
    encryption: Key,
    mac: Key,
    response_mac: Key,
    host_cryptogram: [u8; SHORT],
    chaining: [u8; 16],
    commands: u128,
    is_authenticated: bool,
}

/// What INITIALIZE UPDATE answers beside what is stored.
pub(crate) struct Opening {
    pub(crate) card_challenge: [u8; SHORT],
    pub(crate) card_cryptogram: [u8; SHORT],
}

impl Channel {
    pub(crate) fn open(
        keys: &StaticKeys,
        aid: &[u8],
        host_challenge: &[u8],
        sequence: [u8; 3],
    ) -> (Self, Opening) {
        let card_challenge: [u8; SHORT] = derive(&keys.enc, 0x02, &[&sequence, aid]);
        let both: &[&[u8]] = &[host_challenge, &card_challenge];
        let mac = Zeroizing::new(derive(&keys.mac, 0x06, both));
        let opening = Opening { card_challenge, card_cryptogram: derive(&mac, 0x00, both) };
        let channel = Self {
            encryption: Zeroizing::new(derive(&keys.enc, 0x04, both)),
            response_mac: Zeroizing::new(derive(&keys.mac, 0x07, both)),
            host_cryptogram: derive(&mac, 0x01, both),
            mac,
            chaining: [0; 16],
            commands: 0,
            is_authenticated: false,
        };
        (channel, opening)
    }

    pub(crate) fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Checks the C-MAC at the end of the data; what stands before it.
    pub(crate) fn check_mac<'a>(&mut self, header: &[u8], data: &'a [u8]) -> Option<&'a [u8]> {
        let (body, mac) = data.split_at_checked(data.len().checked_sub(SHORT)?)?;
        let length = [u8::try_from(data.len()).ok()?];
        let full = cmac(&self.mac, &[&self.chaining, header, &length, body]);
        if !bool::from(full[..SHORT].ct_eq(mac)) {
            return None;
        }
        self.chaining = full;
        Some(body)
    }

    /// Compares the host cryptogram.
    pub(crate) fn authenticate(&mut self, cryptogram: &[u8]) -> bool {
        self.is_authenticated = self.host_cryptogram.ct_eq(cryptogram).into();
        self.is_authenticated
    }

    /// Decrypts the data of a command and takes the padding away.
    pub(crate) fn decrypt(&mut self, data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.commands += 1;
        let mut initial = self.commands.to_be_bytes().into();
        Aes128::new(&(*self.encryption).into()).encrypt_block(&mut initial);
        let mut plain = decrypt_cbc(&self.encryption, &initial.into(), data)?;
        let end = plain.iter().rposition(|byte| *byte != 0)?;
        if plain[end] != 0x80 || plain.len() - end > 16 {
            return None;
        }
        plain.truncate(end);
        Some(plain)
    }

    /// The R-MAC over a response without data.
    pub(crate) fn response_mac(&self, status: [u8; 2]) -> [u8; SHORT] {
        let full = cmac(&self.response_mac, &[&self.chaining, &status]);
        std::array::from_fn(|at| full[at])
    }
}

/// AES-CBC without padding. `None` if it is not whole blocks.
pub(crate) fn decrypt_cbc(key: &[u8; 16], initial: &[u8; 16], data: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if data.is_empty() || !data.len().is_multiple_of(16) {
        return None;
    }
    let mut cipher = cbc::Decryptor::<Aes128>::new(key.into(), initial.into());
    let mut plain = Zeroizing::new(Vec::with_capacity(data.len()));
    for block in data.chunks_exact(16) {
        let mut block: aes::Block = block.try_into().expect("chunks of 16 bytes");
        cipher.decrypt_block(&mut block);
        plain.extend_from_slice(&block);
    }
    Some(plain)
}

fn derive<const N: usize>(key: &[u8; 16], constant: u8, context: &[&[u8]]) -> [u8; N] {
    let bits = (8 * N as u16).to_be_bytes();
    let head = [[0; 11].as_slice(), &[constant, 0], &bits, &[1]].concat();
    let full = cmac(key, &[&head, &context.concat()]);
    std::array::from_fn(|at| full[at])
}

fn cmac(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Cmac::<Aes128>::new(key.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
