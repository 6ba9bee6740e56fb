//! Says something on an ASR and prints the first answer: `ask DIR ASR TEXT`.
//!
//! DIR is the directory of the installation, usually `/opt/akm`.

use std::path::Path;
use std::time::Duration;

use akm_client::{Arrival, Message, Stack, StackError};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, asr, text] = arguments.as_slice() else { return Err("usage: ask DIR ASR TEXT".into()) };
    let answer = ask(dir.as_ref(), asr, text)?;
    println!("{}: {}", answer.from_name, String::from_utf8_lossy(&answer.data));
    Ok(())
}

/// Says `text` to all other members, and waits for a minute until one of them says something.
pub fn ask(dir: &Path, asr: &str, text: &str) -> Result<Message, StackError> {
    let mut listening = Stack::connect(dir)?.listen(asr)?;
    listening.set_patience(Some(Duration::from_secs(60)))?;
    Stack::connect(dir)?.send(asr, text.as_bytes())?;
    loop {
        match listening.next_arrival()? {
            Arrival::Message(message) => return Ok(message),
            Arrival::Lost { count } => eprintln!("{count} messages were lost here"),
        }
    }
}
