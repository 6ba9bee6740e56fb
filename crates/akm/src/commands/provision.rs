//! `akm provision`: makes a target into a node.

use std::path::{Path, PathBuf};

use crate::error::CommandError;
use akm_provision::ceremony::{AttachOrder, Order};
use akm_provision::module::Module;
use akm_provision::progress::Progress;
use akm_provision::view::{Node, Provisioned};
use akm_target::TargetUrl;

use super::{element, name};
use crate::home::Options;
use crate::print::{self, Printer};

/// Make a target into an AKM node: create, save, install, store, verify
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  akm provision local:./n1 --name pump\n  akm provision ssh://pi@10.0.0.7 --name valve --listen 0.0.0.0:17100\n  \
                  akm provision --resume\n  akm provision local:./n1 --again\n  \
                  akm provision ssh://root@10.0.0.7 --element tpm:device:/dev/tpmrm0\n  \
                  akm provision --attach 'card:Swissbit' --card-keys keys --name boiler\n  \
                  akm provision ssh://root@10.0.0.8 --resume boiler"
)]
pub(super) struct Arguments {
    #[allow(
        rustdoc::broken_intra_doc_links,
        reason = "the help of the program shows this text as it stands"
    )]
    /// local:DIR or ssh://[user@]host[:port][/dir]
    pub(super) target: Option<String>,
    /// What the node is called; otherwise a name is made from the target
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The node's element, as the target reaches it: software, tpm:device:PATH, tpm:swtpm:host=HOST,port=PORT, a
    /// PKCS#11 URI, or card:READER; otherwise the one that the device has, or software
    #[arg(long)]
    pub(super) element: Option<String>,
    /// Fill this element here, where it is plugged in, before it goes into its target
    #[arg(
        long,
        value_name = "ELEMENT",
        requires = "name",
        conflicts_with_all = ["target", "element", "listen", "endpoint", "ssh_config", "again", "resume"]
    )]
    pub(super) attach: Option<String>,
    /// The file with the static keys of the card, where the element is one; the module keeps them sealed
    #[arg(long, value_name = "FILE")]
    pub(super) card_keys: Option<PathBuf>,
    /// The akmd to install; otherwise the one beside this program
    #[arg(long, value_name = "PATH")]
    pub(super) stack: Option<PathBuf>,
    /// Where the stack listens, UDP and TCP; otherwise a free port (local) or 0.0.0.0:17100 (ssh)
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: Option<String>,
    /// Where the module and other nodes reach it; otherwise made from the target
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) endpoint: Option<String>,
    /// Configuration for ssh, instead of your own
    #[arg(long, value_name = "FILE")]
    pub(super) ssh_config: Option<PathBuf>,
    /// Make a device that was provisioned before into a new node; the old relationship is erased
    #[arg(long)]
    pub(super) again: bool,
    /// Go on where a ceremony was cut off; without a name, with the only one. With a target: the element that was
    /// filled here is in it by now
    #[arg(long, value_name = "NODE", num_args = 0..=1, conflicts_with_all = ["name", "again"])]
    pub(super) resume: Option<Option<String>>,
}

pub(super) fn carry_out(options: &Options, arguments: &Arguments) -> Result<u8, CommandError> {
    let mut printer = Printer::new(options);
    let mut tell = |progress| printer.tell(progress);
    let node = match (&arguments.attach, &arguments.resume) {
        (Some(element), _) => {
            let order = attach_order(arguments, element)?;
            open(options, arguments.card_keys.as_deref())?.attach(&order, &mut tell)?
        }
        (None, Some(resumed)) => resume(options, arguments, resumed.as_deref(), &mut tell)?,
        (None, None) => {
            let order = order(arguments)?;
            open(options, arguments.card_keys.as_deref())?.provision(&order, &mut tell)?
        }
    };
    let Printer { steps, notes, .. } = printer;
    print::provisioned(&Provisioned { node, steps, notes }, options.json).map(|()| 0)
}

fn resume(
    options: &Options,
    arguments: &Arguments,
    name: Option<&str>,
    tell: &mut dyn FnMut(Progress),
) -> Result<Node, CommandError> {
    let card_keys = arguments.card_keys.as_deref();
    if let (Some(name), Some(_)) = (name, &arguments.target) {
        let (name, order) = (super::name(name)?, order(arguments)?);
        return Ok(open(options, card_keys)?.arrive(&name, &order, tell)?);
    }
    let [element, stack, listen, endpoint, ssh_config] = [
        arguments.element.is_some(),
        arguments.stack.is_some(),
        arguments.listen.is_some(),
        arguments.endpoint.is_some(),
        arguments.ssh_config.is_some(),
    ];
    if element || stack || listen || endpoint || ssh_config {
        return Err(CommandError::usage(
            "--resume takes --element, --stack, --listen, --endpoint and --ssh-config only with the target into which an \
             element has come (akm provision TARGET --resume NODE); for a ceremony that was cut off, repeat its command \
             with them"
                .to_owned(),
        ));
    }
    let name = name.or(arguments.target.as_deref()).map(super::name).transpose()?;
    Ok(open(options, card_keys)?.resume(name.as_ref(), tell)?)
}

/// The module, with the keys of cards that were given.
pub(super) fn open(options: &Options, card_keys: Option<&Path>) -> Result<Module, CommandError> {
    let card_keys = absolute_path(card_keys)?;
    Ok(options.open_module()?.with_card_keys(card_keys))
}

fn attach_order(arguments: &Arguments, element: &str) -> Result<AttachOrder, CommandError> {
    let name =
        arguments.name.as_deref().ok_or_else(|| CommandError::usage("--attach needs --name".to_owned()))?;
    Ok(AttachOrder {
        name: super::name(name)?,
        element: element::spec(element)?,
        stack: absolute_path(arguments.stack.as_deref())?,
    })
}

fn absolute_path(path: Option<&Path>) -> Result<Option<PathBuf>, CommandError> {
    path.map(std::path::absolute)
        .transpose()
        .map_err(|error| CommandError::usage(format!("a path is not usable: {error}")))
}

/// What these arguments order.
pub(super) fn order(arguments: &Arguments) -> Result<Order, CommandError> {
    let usage = |error: &dyn std::fmt::Display| CommandError::usage(error.to_string());
    let text = arguments.target.as_deref().ok_or_else(|| {
        CommandError::usage("name a target: local:DIR or ssh://user@host[:port] (or use --resume)".to_owned())
    })?;
    let target: TargetUrl = text.parse().map_err(|error| usage(&error))?;
    let element = arguments.element.as_deref().map(element::spec).transpose()?;
    let listen = match &arguments.listen {
        Some(text) => Some(text.parse().map_err(|_| {
            CommandError::usage(format!("--listen {text}: an address and a port, as in 192.0.2.7:47100"))
        })?),
        None => None,
    };
    let endpoint = match &arguments.endpoint {
        Some(text) => Some(text.parse().map_err(|_| {
            CommandError::usage(format!("--endpoint {text}: a host and a port, as in device.example:47100"))
        })?),
        None => None,
    };
    Ok(Order {
        target,
        name: arguments.name.as_deref().map(name).transpose()?,
        element,
        stack: absolute_path(arguments.stack.as_deref())?,
        listen,
        endpoint,
        ssh_config: absolute_path(arguments.ssh_config.as_deref())?,
        again: arguments.again,
    })
}
