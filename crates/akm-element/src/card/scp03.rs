//! The module's side of SCP03, without a card: everything follows from the static keys and the sequence counter
//! (`docs/card.md`, section 7).

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, BlockModeEncrypt, KeyInit, KeyIvInit};
use akm_core::secret::Secret;
use cmac::{Cmac, Mac};
use zeroize::Zeroizing;

use super::keys::{CardKeys, KEY};

/// Bytes of a challenge, a cryptogram and a MAC.
pub(super) const SHORT: usize = 8;

/// C-MAC, C-ENC and R-MAC.
pub(super) const LEVEL: u8 = 0x13;

const BLOCK: usize = 16;

/// A channel that is yet to be opened.
pub(super) struct Channel {
    encryption: Secret<KEY>,
    mac: Secret<KEY>,
    response_mac: Secret<KEY>,
    card_challenge: [u8; SHORT],
    both: [u8; 2 * SHORT],
    chaining: [u8; BLOCK],
    commands: u128,
}

impl Channel {
    /// The channel that INITIALIZE UPDATE with this challenge opens.
    pub(super) fn new(keys: &CardKeys, aid: &[u8], host_challenge: &[u8; SHORT], sequence: &[u8; 3]) -> Self {
        let card_challenge: Secret<SHORT> = derive(&keys.encryption, 0x02, &[sequence, aid]);
        let card_challenge = *card_challenge.expose();
        let mut both = [0; 2 * SHORT];
        both[..SHORT].copy_from_slice(host_challenge);
        both[SHORT..].copy_from_slice(&card_challenge);
        Self {
            encryption: derive(&keys.encryption, 0x04, &[&both]),
            mac: derive(&keys.mac, 0x06, &[&both]),
            response_mac: derive(&keys.mac, 0x07, &[&both]),
            card_challenge,
            both,
            chaining: [0; BLOCK],
            commands: 0,
        }
    }

    /// What the card answers to INITIALIZE UPDATE in place of a challenge.
    pub(super) fn card_challenge(&self) -> [u8; SHORT] {
        self.card_challenge
    }

    /// What a card that knows the keys answers.
    pub(super) fn card_cryptogram(&self) -> [u8; SHORT] {
        *derive(&self.mac, 0x00, &[&self.both]).expose()
    }

    /// EXTERNAL AUTHENTICATE.
    pub(super) fn authenticate(&mut self, level: u8) -> Vec<u8> {
        let cryptogram: Secret<SHORT> = derive(&self.mac, 0x01, &[&self.both]);
        self.with_mac([0x84, 0x82, level, 0x00], cryptogram.expose())
    }

    /// A command with its data encrypted and authenticated.
    pub(super) fn secure(&mut self, header: [u8; 4], data: &[u8]) -> Vec<u8> {
        self.commands += 1;
        let mut initial = self.commands.to_be_bytes().into();
        Aes128::new(self.encryption.expose().into()).encrypt_block(&mut initial);
        let mut padded = Zeroizing::new(Vec::with_capacity(data.len() + BLOCK));
        padded.extend_from_slice(data);
        padded.push(0x80);
        let length = padded.len().next_multiple_of(BLOCK);
        padded.resize(length, 0);
        encrypt_cbc(&self.encryption, &initial.into(), &mut padded);
        self.with_mac(header, &padded)
    }

    fn with_mac(&mut self, header: [u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u8::try_from(data.len() + SHORT).expect("commands of AKM are short");
        let mut command = [&header[..], &[length], data].concat();
        self.chaining = *cmac(&self.mac, &[&self.chaining, &command]);
        command.extend_from_slice(&self.chaining[..SHORT]);
        command
    }

    /// The R-MAC of the response, without its data if it has none, to the last command.
    pub(super) fn response_mac(&self, data: &[u8], status: [u8; 2]) -> [u8; SHORT] {
        let full = cmac(&self.response_mac, &[&self.chaining, data, &status]);
        std::array::from_fn(|at| full[at])
    }
}

/// AES-CBC without padding, in place; whole blocks only.
pub(super) fn encrypt_cbc(key: &Secret<KEY>, initial: &[u8; BLOCK], data: &mut [u8]) {
    debug_assert!(data.len().is_multiple_of(BLOCK));
    let mut cipher = cbc::Encryptor::<Aes128>::new(key.expose().into(), initial.into());
    for block in data.chunks_exact_mut(BLOCK) {
        let block: &mut aes::Block = block.try_into().expect("a whole block");
        cipher.encrypt_block(block);
    }
}

/// NIST SP 800-108 in counter mode with CMAC, one block, as SCP03 lays it out.
fn derive<const N: usize>(key: &Secret<KEY>, constant: u8, context: &[&[u8]]) -> Secret<N> {
    const { assert!(N <= BLOCK) }
    let mut head = [0; 16];
    head[11] = constant;
    head[13..15].copy_from_slice(&(8 * N as u16).to_be_bytes());
    head[15] = 1;
    let mut parts: Vec<&[u8]> = vec![&head];
    parts.extend_from_slice(context);
    let full = cmac(key, &parts);
    Secret::fill(|out| out.copy_from_slice(&full[..N]))
}

fn cmac(key: &Secret<KEY>, parts: &[&[u8]]) -> Zeroizing<[u8; BLOCK]> {
    let mut mac = Cmac::<Aes128>::new(key.expose().into());
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    fn keys() -> CardKeys {
        let key = |first: u8| Secret::fill(|out| *out = std::array::from_fn(|at| first + at as u8));
        CardKeys { version: 0x30, encryption: key(0x00), mac: key(0x10), data: key(0x20) }
    }

    /// Traces of a real card (an eUICC's security domain, pseudo-random challenges), as published in the tests of osmocom's
    /// pySim.
    #[test]
    fn a_real_card_is_spoken_to_as_it_expects() {
        let security_domain = hex("a0000005591010ffffffff8900000100");
        let open = |challenge: &str, sequence: u8| {
            let challenge = hex(challenge).try_into().unwrap();
            Channel::new(&keys(), &security_domain, &challenge, &[0, 0, sequence])
        };
        let get_identity = hex("bf3e035c015a");

        // Level 0x11: C-MAC and R-MAC.
        let mut channel = open("b13e5f938fc108c4", 2);
        assert_eq!(channel.card_challenge()[..], hex("3eb51047495b249f"));
        assert_eq!(channel.card_cryptogram()[..], hex("66c484c1d2ef1948"));
        assert_eq!(channel.authenticate(0x11), hex("84821100107d5f5826a993ebc89eea24957fa0b3ce"));
        let command = channel.with_mac([0x84, 0xe2, 0x91, 0x00], &get_identity);
        assert_eq!(command, hex("84e291000ebf3e035c015a558d036518a28297"));
        let response = hex("bf3e125a1089882119900000000000000000000005");
        assert_eq!(channel.response_mac(&response, [0x90, 0x00])[..], hex("971be68992dbbdfa"));

        // Level 0x33: all, so C-ENC too; the response came encrypted.
        let mut channel = open("fdf38259a1e0de44", 3);
        assert_eq!(channel.card_cryptogram()[..], hex("081cdc01c26b372d"));
        assert_eq!(channel.authenticate(0x33), hex("84823300108c36f96bcc00724a4e13ad591d7da3f0"));
        let command = channel.secure([0x84, 0xe2, 0x91, 0x00], &get_identity);
        assert_eq!(command, hex("84e2910018267a85dfe4a98fca6fb0527e0dfecce4914e40401433c87f"));
        let response = hex("f3ba2b1013aa6224f5e1c138d71805c569e5439b47576260b75fc021b25097cb");
        assert_eq!(channel.response_mac(&response, [0x90, 0x00])[..], hex("2e68f8a0144975b9"));
    }
}
