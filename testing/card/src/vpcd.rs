//! The protocol between a virtual reader (vpcd) and a card that is a program.
//!
//! The card connects to the reader. Each message is u16 length || content. A content of one byte is for the card's
//! reader: power off, power on, reset, or the answer to reset is wanted; all else is a command. Only the last two are
//! answered.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;

use crate::Card;

const POWER_OFF: u8 = 0;
const POWER_ON: u8 = 1;
const RESET: u8 = 2;
const ATR: u8 = 4;

/// Why a card left its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The reader closed the connection.
    Closed,
    /// Power was lost.
    PowerLost,
}

/// When a card is to leave its reader on its own, in the middle of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// At which command, counted from 1.
    pub command: u64,
    /// After it was executed, but before it is answered; else before.
    pub after: bool,
}

/// Is a card in a reader until one of them leaves.
pub fn serve(card: &mut Card, reader: &mut TcpStream, leave: Option<Leave>) -> io::Result<End> {
    reader.set_nodelay(true)?;
    let mut commands = 0;
    loop {
        let Some(message) = read(reader)? else {
            return Ok(End::Closed);
        };
        match message[..] {
            [POWER_ON | POWER_OFF | RESET] => card.power(),
            [ATR] => write(reader, card.atr())?,
            _ => {
                commands += 1;
                if leave == Some(Leave { command: commands, after: false }) {
                    return Ok(End::PowerLost);
                }
                let Ok(response) = card.transmit(&message) else {
                    return Ok(End::PowerLost);
                };
                if leave == Some(Leave { command: commands, after: true }) {
                    return Ok(End::PowerLost);
                }
                write(reader, &response)?;
            }
        }
    }
}

fn read(reader: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    if !read_exact(reader, &mut length)? {
        return Ok(None);
    }
    let mut content = vec![0; usize::from(u16::from_be_bytes(length))];
    Ok(read_exact(reader, &mut content)?.then_some(content))
}

/// Whether all of it came before the reader closed the connection.
fn read_exact(reader: &mut TcpStream, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
            return Ok(false);
        }
        read => read?,
    }
    // The reader sends length and content apart, the second only when the first is acknowledged. An acknowledgement waits
    // 40 ms for company unless asked not to; the kernel forgets that, so it is asked after each read.
    rustix::net::sockopt::set_tcp_quickack(reader.as_fd(), true)?;
    Ok(true)
}

fn write(reader: &mut TcpStream, content: &[u8]) -> io::Result<()> {
    let length = u16::try_from(content.len()).expect("a response is short");
    let message = [&length.to_be_bytes(), content].concat();
    reader.write_all(&message)
}
