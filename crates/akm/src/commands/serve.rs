//! `akm serve`: stays running, and carries parked work on.

use std::net::SocketAddr;

use crate::error::CommandError;

use crate::home::Options;
use crate::print::sentence;

/// Stay running: carry parked work on, renew ASRs in which members found back
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  akm serve\n  akm serve --metrics 127.0.0.1:9464 --every 5m")]
pub(super) struct Arguments {
    /// Show /health and /metrics over HTTP at this address, which must be on loopback
    #[arg(long, value_name = "ADDR:PORT")]
    metrics: Option<SocketAddr>,
    /// Ask all nodes how they stand once in this time
    #[arg(long, value_name = "TIME", default_value = "1m")]
    every: String,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let every = super::duration("every", &arguments.every)?;
    let mut log = |progress| tracing::info!("{}", sentence(&progress));
    options.open_module()?.serve(arguments.metrics, every, &mut log)?;
    Ok(0)
}
