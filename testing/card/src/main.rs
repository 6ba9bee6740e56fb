//! A card with the AKM applet that is a program, in a virtual reader. For tests.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use akm_card::vpcd::{self, End, Leave};
use akm_card::{Applet, Card, Fault, Memory, Moment, Protocol, StaticKeys};
use clap::Parser;
use zeroize::Zeroizing;

/// How long a reader may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Exit code when power was lost as asked for.
const POWER_LOST: u8 = 3;

/// A card with the AKM applet that is a program, in a virtual reader. It protects nothing: for tests.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the virtual reader (vpcd) listens.
    #[arg(long, value_name = "ADDRESS:PORT")]
    vpcd: SocketAddr,
    /// The card's memory; made if it is not there.
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// Static keys: lines of SERIAL VERSION ENC MAC DEK.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Serial number of a card whose memory is not there yet.
    #[arg(long, default_value = "SIM-0001")]
    serial: String,
    /// Speak T=0 instead of T=1.
    #[arg(long)]
    t0: bool,
    /// Lose power at this write to memory.
    #[arg(long, value_name = "N")]
    lose_power_at_write: Option<u64>,
    /// In that write: `before`, `torn` or `after`.
    #[arg(long, value_name = "MOMENT", default_value = "before", value_parser = moment)]
    moment: Moment,
    /// Lose power at this command, before it is executed.
    #[arg(long, value_name = "N", conflicts_with = "lose_power_after_command")]
    lose_power_before_command: Option<u64>,
    /// Lose power at this command, executed and not yet answered.
    #[arg(long, value_name = "N")]
    lose_power_after_command: Option<u64>,
}

fn moment(text: &str) -> Result<Moment, String> {
    match text {
        "before" => Ok(Moment::Before),
        "torn" => Ok(Moment::Torn),
        "after" => Ok(Moment::After),
        _ => Err("before, torn or after".into()),
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(End::Closed) => ExitCode::SUCCESS,
        Ok(End::PowerLost) => POWER_LOST.into(),
        Err(why) => {
            eprintln!("akm-card: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<End, String> {
    let state = arguments.state.display();
    let first = Applet::first_memory(&arguments.serial)
        .ok_or("a serial number is 1 to 32 printable ASCII characters without space")?;
    let mut memory = Memory::open(&arguments.state, Applet::MEMORY, || first)
        .map_err(|error| format!("{state}: {error}"))?;
    if let Some(write) = arguments.lose_power_at_write {
        memory.lose_power_at(Fault { write, moment: arguments.moment });
    }
    let mut bytes = std::fs::read(&arguments.keys)
        .map(Zeroizing::new)
        .map_err(|error| format!("{}: {error}", arguments.keys.display()))?;
    let text = Zeroizing::new(
        String::from_utf8(std::mem::take(&mut *bytes)).map_err(|_| "the keys are not text".to_owned())?,
    );
    let serial = Applet::serial_in(memory.bytes()).ok_or_else(|| format!("{state} is no card's memory"))?;
    let keys = StaticKeys::find(&text, &serial)
        .map_err(|error| format!("{}: {error} for {serial}", arguments.keys.display()))?;
    let applet = Applet::new(memory, keys).ok_or_else(|| format!("{state} is no card's memory"))?;
    let mut card = Card::new(applet, if arguments.t0 { Protocol::T0 } else { Protocol::T1 });
    let mut reader = connect(arguments.vpcd)?;
    let leave = match (arguments.lose_power_before_command, arguments.lose_power_after_command) {
        (Some(command), _) => Some(Leave { command, after: false }),
        (None, Some(command)) => Some(Leave { command, after: true }),
        (None, None) => None,
    };
    vpcd::serve(&mut card, &mut reader, leave).map_err(|error| format!("{}: {error}", arguments.vpcd))
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(address) {
            Ok(reader) => return Ok(reader),
            Err(error) if Instant::now() > deadline => return Err(format!("{address}: {error}")),
            // The reader may not be there yet; there is nothing to wait on but time.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
