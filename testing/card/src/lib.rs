//! For tests: a card with the AKM applet that is a program.
//!
//! It does what `docs/card.md` says, in the order in which it says it, with a memory from which power can be taken at any
//! write. It is the counterpart of the host's side in `akm-element` and shares no code with it.
//!
//! ```text
//!   akm-element -- libpcsclite -- pcscd -- vpcd driver -- TCP -- [vpcd::serve -- Card -- Applet -- Memory] -- a file
//! ```
//!
//! It keeps nothing secret from whoever can read its file, and says so in its manufacturer's name. It never ships.

mod applet;
mod keys;
mod memory;
mod scp03;
pub mod vpcd;

pub use applet::{AID, Applet, MANUFACTURER, PowerLost, SLOTS};
pub use keys::{InvalidKeys, StaticKeys};
pub use memory::{Fault, Memory, MemoryError, Moment};

/// Which transmission protocol the card speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// T=0: responses to commands with data are fetched by GET RESPONSE.
    T0,
    /// T=1.
    #[default]
    T1,
}

/// A card: the applet, and what a card does around it.
#[derive(Debug)]
pub struct Card {
    applet: Applet,
    protocol: Protocol,
    selected: bool,
    /// What waits for GET RESPONSE.
    waiting: Vec<u8>,
}

impl Card {
    /// A card that is without power.
    pub fn new(applet: Applet, protocol: Protocol) -> Self {
        Self { applet, protocol, selected: false, waiting: Vec::new() }
    }

    /// Answer to reset.
    pub fn atr(&self) -> &'static [u8] {
        match self.protocol {
            Protocol::T0 => &[0x3b, 0x04, b'A', b'K', b'M', b'1'],
            // The last byte makes the XOR of all but the first zero.
            Protocol::T1 => &[0x3b, 0x84, 0x01, b'A', b'K', b'M', b'1', 0xf3],
        }
    }

    /// Power comes, comes back, or a reset: all that is not stored is forgotten.
    pub fn power(&mut self) {
        self.selected = false;
        self.waiting.clear();
        self.applet.reset();
    }

    /// The applet, for tests that look into it.
    pub fn applet(&mut self) -> &mut Applet {
        &mut self.applet
    }

    /// One command, and its response with the status word. After [`PowerLost`] the card is dead until it is opened
    /// again from what its memory held.
    pub fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, PowerLost> {
        match self.protocol {
            Protocol::T1 => self.execute(command),
            Protocol::T0 => self.execute_by_t0(command),
        }
    }

    fn execute(&mut self, command: &[u8]) -> Result<Vec<u8>, PowerLost> {
        if command.len() >= 5 && command[..4] == [0x00, 0xa4, 0x04, 0x00] {
            let length = usize::from(command[4]);
            self.selected = command.get(5..5 + length) == Some(&AID);
            if !self.selected {
                return Ok(vec![0x6a, 0x82]);
            }
            return self.applet.select();
        }
        if !self.selected {
            return Ok(vec![0x6d, 0x00]);
        }
        self.applet.process(command)
    }

    fn execute_by_t0(&mut self, command: &[u8]) -> Result<Vec<u8>, PowerLost> {
        let waiting = std::mem::take(&mut self.waiting);
        if command.len() == 5 && command[..4] == [0x00, 0xc0, 0x00, 0x00] {
            let wanted = usize::from(command[4]);
            if waiting.is_empty() {
                return Ok(vec![0x69, 0x85]);
            }
            if wanted != waiting.len() - 2 {
                let length = (waiting.len() - 2) as u8;
                self.waiting = waiting;
                return Ok(vec![0x6c, length]);
            }
            return Ok(waiting);
        }
        let has_data = command.len() > 5;
        if has_data && command.len() > 5 + usize::from(command[4]) {
            // With T=0 a command with data carries no Le.
            return Ok(vec![0x67, 0x00]);
        }
        let response = self.execute(command)?;
        let length = response.len() - 2;
        if length == 0 {
            return Ok(response);
        }
        if has_data {
            self.waiting = response;
            return Ok(vec![0x61, length as u8]);
        }
        if command.len() == 5 && usize::from(command[4]) == length {
            return Ok(response);
        }
        Ok(vec![0x6c, length as u8])
    }
}

#[cfg(test)]
mod tests;
