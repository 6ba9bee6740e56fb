//! The command line of `akmd`.

mod show;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use akm_client::{LocalRequest, Reply, Stack, decode};
use akm_process::{plain, plain_in_line};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Parser, Subcommand};
use serde_json::json;
use zeroize::Zeroizing;

use crate::daemon;
use crate::enrol;
use crate::error::{AsItIs, FAILED, NodeError, StackTrouble};
use crate::layout::Layout;
use crate::storage::Storage;

/// Longest envelope that `enroll` reads, in bytes.
const ENVELOPE_MAX: u64 = 1 << 20;

/// Most bytes that `send -` reads; far more than fits into any frame.
const INPUT_MAX: u64 = 1 << 18;

/// How long `run --detach` waits for the stack to answer, and `stop` for its end.
const READY: Duration = Duration::from_secs(120);

/// How often `status --watch` says how the node stands.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// How often they look.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Parser)]
#[command(
    name = "akmd",
    version,
    about = "The AKM stack of a node: keeps its relationships and talks for its applications",
    after_help = "Examples:\n  akmd status --dir ./n1\n  akmd listen line --dir ./n1 --count 1\n  akmd send line \"hello\" --dir ./n2\n\n\
                  Exit codes:\n  0  done\n  1  failed\n  2  usage\n  3  nothing to do\n  4  the element refused, or is not ours\n  \
                  7  the stack does not run"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The directory of the installation
    #[arg(long, global = true, default_value = "/opt/akm", value_name = "DIR")]
    dir: PathBuf,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// Say more on standard error; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Run the stack
    #[command(after_help = "Examples:\n  akmd run --dir ./n1\n  akmd run --dir ./n1 --detach")]
    Run {
        /// Start it in the background and return when it answers
        #[arg(long)]
        detach: bool,
        /// Show /health and /metrics over HTTP at this address, which must be on loopback
        #[arg(long, value_name = "ADDR:PORT")]
        metrics: Option<std::net::SocketAddr>,
    },
    /// Stop the running stack
    #[command(after_help = "Example:\n  akmd stop --dir ./n1")]
    Stop,
    /// How the node and its relationships stand
    #[command(after_help = "Examples:\n  akmd status --dir ./n1\n  akmd status --watch --dir ./n1")]
    Status {
        /// Say it again every two seconds, until interrupted
        #[arg(long)]
        watch: bool,
    },
    /// Who this node is
    #[command(after_help = "Example:\n  akmd identify --dir ./n1")]
    Identify,
    /// Send a message to every other member of an ASR, or to one
    #[command(
        after_help = "Examples:\n  akmd send line \"hello\" --dir ./n1\n  akmd send line --to n2 \"hello\" --dir ./n1\n  \
                      sensor | akmd send line - --lines --dir ./n1"
    )]
    Send {
        /// Name or ID of the ASR
        asr: String,
        /// The message; - reads standard input
        text: String,
        /// Send it to this member alone, by name or AKM ID. The others could read it, but it is not sent to them
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// With -: send each line as a message of its own
        #[arg(long)]
        lines: bool,
    },
    /// Print the messages that arrive on an ASR
    #[command(
        after_help = "Examples:\n  akmd listen line --dir ./n1\n  akmd listen line --count 1 --patience 60 --json --dir ./n1"
    )]
    Listen {
        /// Name or ID of the ASR
        asr: String,
        /// Stop after this many messages
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Give up when nothing arrives for this many seconds
        #[arg(long, value_name = "SECONDS")]
        patience: Option<u64>,
    },
    /// Print every frame that arrives, and why it is accepted or dropped
    #[command(after_help = "Examples:\n  akmd watch --dir ./n1\n  akmd watch line --count 10 --dir ./n1")]
    Watch {
        /// Name or ID of an ASR; without: all, and frames that belong to none
        asr: Option<String>,
        /// Stop after this many frames
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// Give up when nothing arrives for this many seconds
        #[arg(long, value_name = "SECONDS")]
        patience: Option<u64>,
    },
    /// Begin the next epoch of an ASR
    #[command(after_help = "Example:\n  akmd rotate line --dir ./n1")]
    Rotate {
        /// Name or ID of the ASR
        asr: String,
    },
    /// Make this device a node; used by the module
    #[command(after_help = "Example:\n  akmd enroll --prepare --dir ./n1")]
    Enroll {
        /// Say what the element needs, and who this device is
        #[arg(long)]
        prepare: bool,
    },
    /// Erase everything that makes this device a node; the stack must not run
    #[command(after_help = "Example:\n  akmd reset --force --dir ./n1")]
    Reset {
        /// Really do it
        #[arg(long, required = true)]
        force: bool,
    },
}

/// Runs the command line; returns the exit code.
pub fn main() -> u8 {
    let memory = akm_process::protect();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are asked for; everything else is a usage error.
            let code = u8::try_from(error.exit_code()).unwrap_or(FAILED);
            let _ = error.print();
            return code;
        }
    };
    // Who runs a stack sees what happens in its log.
    akm_process::start_log(arguments.verbose.saturating_add(1));
    tracing::debug!("{memory}");
    match carry_out(&arguments) {
        Ok(()) => 0,
        Err(error) => {
            if arguments.json {
                // One line, as all that `listen` and `watch` print. If nobody reads it, the exit code tells.
                let _ = say(Reply::from(&error).line().trim_end());
            }
            // Where nobody can be told, as on a full disk, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "akmd: {}", plain(&error.to_string()));
            error.exit_code()
        }
    }
}

fn carry_out(arguments: &Arguments) -> Result<(), NodeError> {
    let layout = Layout::new(&arguments.dir);
    let done = |what: serde_json::Value| if arguments.json { say_json(&what) } else { Ok(()) };
    match &arguments.command {
        Command::Run { detach: false, metrics } => daemon::run(&layout, *metrics),
        Command::Run { detach: true, metrics } => {
            detach(&layout, arguments.verbose, *metrics)?;
            done(json!({ "running": true }))
        }
        Command::Stop => {
            stop(&layout)?;
            done(json!({ "running": false }))
        }
        Command::Status { watch } => loop {
            show::status(&Stack::connect(layout.dir())?.status()?, arguments.json)?;
            if !watch {
                break Ok(());
            }
            std::thread::sleep(WATCH_INTERVAL);
            if !arguments.json {
                say("")?;
            }
        },
        Command::Identify => show::identity(&Stack::connect(layout.dir())?.status()?, arguments.json),
        Command::Send { asr, text, to, lines } => {
            let sent = send(&layout, asr, to.as_deref(), text, *lines)?;
            done(json!({ "sent": sent }))
        }
        Command::Listen { asr, count, patience } => {
            follow(&layout, &LocalRequest::Listen { asr: asr.clone() }, *count, *patience, arguments.json)
        }
        Command::Watch { asr, count, patience } => {
            follow(&layout, &LocalRequest::Watch { asr: asr.clone() }, *count, *patience, arguments.json)
        }
        Command::Rotate { asr } => {
            Stack::connect(layout.dir())?.rotate(asr)?;
            done(json!({ "asked": true }))
        }
        Command::Enroll { prepare: true } => {
            say(&format!("akm-prepare:{}", STANDARD.encode(enrol::prepare(&layout)?.emit())))
        }
        Command::Enroll { prepare: false } => {
            // As large as it may get: a vector that grows leaves copies of the root behind.
            let mut envelope = Zeroizing::new(Vec::with_capacity(ENVELOPE_MAX as usize + 1));
            std::io::stdin()
                .take(ENVELOPE_MAX)
                .read_to_end(&mut envelope)
                .map_err(NodeError::file("cannot read", Path::new("standard input")))?;
            let receipt = enrol::enrol(&layout, &envelope)?;
            say(&format!("akm-receipt:{}", STANDARD.encode(receipt.expose())))
        }
        Command::Reset { .. } => {
            enrol::reset(&layout)?;
            done(json!({ "reset": true }))
        }
    }
}

/// Starts the stack in the background, and waits until it answers or ends.
fn detach(layout: &Layout, verbose: u8, metrics: Option<std::net::SocketAddr>) -> Result<(), NodeError> {
    use std::os::unix::fs::OpenOptionsExt;
    use std::os::unix::process::CommandExt;
    if Stack::connect(layout.dir()).is_ok() {
        return Err(AsItIs::Runs { dir: layout.dir().to_owned() }.into());
    }
    layout.make_run()?;
    let path = layout.log();
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(NodeError::file("cannot open", &path))?;
    let begins = log.metadata().map_or(0, |metadata| metadata.len());
    // Where the log takes nothing, a stack that cannot start could not say why.
    writeln!(&log, "akmd: starting in the background").map_err(NodeError::file("cannot write", &path))?;
    let program = std::env::current_exe().map_err(NodeError::system("cannot find this program"))?;
    let cannot_start = NodeError::system("cannot start the stack");
    let mut process = Process::new(program);
    process.arg("run").arg("--dir").arg(layout.dir());
    if let Some(address) = metrics {
        process.arg("--metrics").arg(address.to_string());
    }
    for _ in 0..verbose {
        process.arg("--verbose");
    }
    let mut child = process
        // It is no service of whoever started this program.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(&cannot_start)?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(&cannot_start)?;
    let started = Instant::now();
    loop {
        if let Ok(mut stack) = Stack::connect(layout.dir())
            && stack.status().is_ok()
        {
            return Ok(());
        }
        // Where another akmd holds the state, that one may be a stack that is about to answer.
        if let Some(status) = child.try_wait().map_err(&cannot_start)?
            && !Storage::is_held(layout)?
        {
            let log = std::fs::read(&path).unwrap_or_default();
            let said = String::from_utf8_lossy(log.get(begins as usize..).unwrap_or_default()).into_owned();
            let last = said.lines().skip(1).filter(|line| !line.trim().is_empty()).last();
            let last = last.unwrap_or("it said nothing");
            let last = last.strip_prefix("akmd: ").unwrap_or(last).to_owned();
            return Err(StackTrouble::Ended { status, last }.into());
        }
        if started.elapsed() > READY {
            return Err(StackTrouble::NoAnswer { log: layout.log() }.into());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Stops the running stack, if there is one, and waits until nobody works in its state: a stack that is
/// just starting is stopped once it listens, an enrolment that was left behind comes to its end.
fn stop(layout: &Layout) -> Result<(), NodeError> {
    let started = Instant::now();
    loop {
        match Stack::connect(layout.dir()).and_then(|mut stack| stack.stop()) {
            Ok(()) => {}
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error.into()),
        }
        if !Storage::is_held(layout)? {
            return Ok(());
        }
        if started.elapsed() > READY {
            return Err(StackTrouble::HeldOn { dir: layout.dir().to_owned() }.into());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Returns how many messages were sent.
fn send(layout: &Layout, asr: &str, to: Option<&str>, text: &str, lines: bool) -> Result<u64, NodeError> {
    let mut stack = Stack::connect(layout.dir())?;
    let mut sent = 0;
    let mut send_one = |bytes: &[u8]| {
        match to {
            None => stack.send(asr, bytes),
            Some(member) => stack.send_to(asr, member, bytes),
        }
        .map(|()| sent += 1)
    };
    let input = std::io::stdin();
    let cannot_read = NodeError::file("cannot read", Path::new("standard input"));
    if text != "-" {
        send_one(text.as_bytes())?;
    } else if lines {
        for line in input.lines() {
            match line {
                Ok(line) => send_one(line.as_bytes())?,
                Err(error) => return Err(cannot_read(error)),
            }
        }
    } else {
        let mut bytes = Vec::new();
        input.take(INPUT_MAX).read_to_end(&mut bytes).map_err(cannot_read)?;
        send_one(&bytes)?;
    }
    Ok(sent)
}

fn follow(
    layout: &Layout,
    request: &LocalRequest,
    count: Option<u64>,
    patience: Option<u64>,
    json: bool,
) -> Result<(), NodeError> {
    let mut stack = Stack::connect(layout.dir())?;
    stack.ask(request)?;
    // For whoever starts this in the background and has to know when to begin.
    eprintln!("akmd: listening");
    stack.set_patience(patience.map(|seconds| Duration::from_secs(seconds.max(1))))?;
    let mut left = count;
    while left != Some(0) {
        let reply = stack.next_reply()?;
        if !matches!(reply, Reply::Lost { .. }) {
            left = left.map(|left| left - 1);
        }
        show::follow_line(&reply, json)?;
    }
    Ok(())
}

/// Prints a line; an error if nobody reads it.
fn say(line: &str) -> Result<(), NodeError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", plain(line))
        .and_then(|()| out.flush())
        .map_err(NodeError::file("cannot write to", Path::new("standard output")))
}

fn say_json(value: &serde_json::Value) -> Result<(), NodeError> {
    say(&format!("{value:#}"))
}

/// The bytes of a message as text, where they are text.
fn readable(data: &str) -> String {
    match String::from_utf8(decode(data).unwrap_or_default()) {
        Ok(text) => plain_in_line(&text).into_owned(),
        Err(_) => format!("base64:{data}"),
    }
}
