//! `akm node replace`: a new device in the place of a node that is lost.
use std::path::PathBuf;

use akm_provision::progress::Progress;
use akm_provision::view::Replaced;

use crate::commands::provision;
use crate::commands::{name, worst};
use crate::error::CommandError;
use crate::home::Options;
use crate::print::{self, Printer, tell};

/// Put a new device in the place of a node that is lost, in all its ASRs; the old one is shut out
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  akm node replace pump ssh://root@10.0.0.9\n  akm node replace pump local:./n9 --name pump2"
)]
pub(crate) struct Arguments {
    /// Name of the node that is lost
    old: String,
    #[allow(
        rustdoc::broken_intra_doc_links,
        reason = "the help of the program shows this text as it stands"
    )]
    /// local:DIR or ssh://[user@]host[:port][/dir] of the new device
    target: String,
    /// What the new node is called; otherwise as the old one
    #[arg(long)]
    name: Option<String>,
    /// The new node's element, as the target reaches it; otherwise software
    #[arg(long)]
    element: Option<String>,
    /// The file with the static keys of the card, where the element is one; the module keeps them sealed
    #[arg(long, value_name = "FILE")]
    card_keys: Option<PathBuf>,
    /// The akmd to install; otherwise the one beside this program
    #[arg(long, value_name = "PATH")]
    stack: Option<PathBuf>,
    /// Where the stack listens, UDP and TCP; otherwise a free port (local) or 0.0.0.0:17100 (ssh)
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Where the module and other nodes reach it; otherwise made from the target
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// Configuration for ssh, instead of your own
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<PathBuf>,
}

impl Arguments {
    /// The same as an order to provision.
    fn as_provision(&self) -> provision::Arguments {
        provision::Arguments {
            target: Some(self.target.clone()),
            name: self.name.clone(),
            element: self.element.clone(),
            attach: None,
            card_keys: self.card_keys.clone(),
            stack: self.stack.clone(),
            listen: self.listen.clone(),
            endpoint: self.endpoint.clone(),
            ssh_config: self.ssh_config.clone(),
            again: false,
            resume: None,
        }
    }
}

/// Returns the exit code: that of the first ASR that could not be changed, if there is one.
pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let (old, order) = (name(&arguments.old)?, provision::order(&arguments.as_provision())?);
    let module = provision::open(options, arguments.card_keys.as_deref())?;
    let mut printer = Printer::new(options);
    let (node, asrs) = module.replace(&old, &order, &mut |progress| match progress {
        // What became of its ASRs is noted also where JSON is printed.
        Progress::Asr(_) | Progress::CarriedOn(_) => tell(progress),
        progress => printer.tell(progress),
    })?;
    let replaced = Replaced { old, node, steps: printer.steps, asrs }.refused_as(CommandError::from);
    print::replaced(&replaced, options.json)?;
    Ok(worst(
        replaced.asrs.iter().map(|place| place.result.as_ref().err().map_or(0, CommandError::exit_code)),
    ))
}
