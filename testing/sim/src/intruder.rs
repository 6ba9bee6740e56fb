//! Somebody on the network who has header keys and no other secret.

use akm_core::frame::{Class, HEADER_LENGTH, Header, OVERHEAD};
use akm_core::session::RandomSource;

use crate::issue::Issue;
use crate::random::Random;

/// Somebody on the network who records every frame and sends what he likes. He has the header keys,
/// and no other secret.
#[derive(Debug)]
pub struct Intruder {
    recorded: Vec<(usize, Vec<u8>)>,
    random: Random,
}

impl Intruder {
    /// An intruder who has heard nothing yet.
    pub fn new(random: Random) -> Self {
        Self { recorded: Vec::new(), random }
    }

    /// Hears a frame of an issue.
    pub fn record(&mut self, issue: usize, frame: Vec<u8>) {
        self.recorded.push((issue, frame));
    }

    /// A recorded frame as it was, counted from the latest and round again; with its issue.
    pub fn recorded(&self, back: usize) -> Option<(usize, Vec<u8>)> {
        let last = self.recorded.len().checked_sub(1)?;
        Some(self.recorded[last - back % self.recorded.len()].clone())
    }

    /// The salt of the latest recorded frame of a session in the name of this member.
    pub fn last_salt_of(&self, issue: usize, sender: u16) -> Option<u64> {
        let of_issue = self.recorded.iter().rev().filter(|(of, _)| *of == issue);
        let mut headers = of_issue.filter_map(|(_, frame)| Header::parse(frame).ok());
        let found = headers.find(|header| header.class == Class::Session && header.sender == sender)?;
        Some(found.salt)
    }

    /// A recorded frame with some bits of one byte flipped.
    pub fn alter(&self, back: usize, byte: usize, bits: u8) -> Option<Vec<u8>> {
        let (_, mut frame) = self.recorded(back)?;
        let at = byte % frame.len();
        frame[at] ^= bits;
        Some(frame)
    }

    /// A recorded frame under a header of another epoch, rightly signed.
    pub fn resign(&self, back: usize, epoch: u32, issues: &[Issue]) -> Option<Vec<u8>> {
        let (issue, mut frame) = self.recorded(back)?;
        let header = Header { epoch, ..Header::parse(&frame).ok()? };
        let key = issues[issue].secrets().host.keys.header_key;
        frame[..HEADER_LENGTH].copy_from_slice(&header.emit(&key));
        Some(frame)
    }

    /// A frame in a member's name, rightly signed, with nothing behind it.
    pub fn forge(&mut self, issue: &Issue, sender: u16, epoch: u32) -> Vec<u8> {
        let header = Header {
            class: Class::Session,
            sender,
            tag: issue.tag,
            epoch,
            salt: self.random.next(),
            counter: (self.random.next() % 3) as u32,
        };
        let mut frame = vec![0; OVERHEAD + 8];
        self.random.fill(&mut frame);
        frame[..HEADER_LENGTH].copy_from_slice(&header.emit(&issue.secrets().host.keys.header_key));
        frame
    }

    /// Random bytes.
    pub fn noise(&mut self, length: usize) -> Vec<u8> {
        let mut frame = vec![0; length];
        self.random.fill(&mut frame);
        frame
    }

    /// Random bytes that look like a frame of this issue.
    pub fn tagged(&mut self, issue: &Issue, length: usize) -> Vec<u8> {
        let mut frame = self.noise(length.max(8));
        frame[..2].copy_from_slice(&[0x10, 0]);
        frame[4..8].copy_from_slice(&issue.tag.0);
        frame
    }
}
