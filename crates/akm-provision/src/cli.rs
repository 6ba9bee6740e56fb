//! The command line of `akm`: reads what is asked, calls the library, prints what came of it.

mod arguments;
mod element;
pub(crate) mod show;

use std::collections::BTreeSet;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use akm_core::id::AkmId;
use akm_core::management::RelationshipStatus;
use akm_core::policy::Policy;
use akm_disk::private;
use clap::Parser;
use zeroize::Zeroizing;

use crate::ceremony::{self, AttachOrder, Observer, Order, StepReport};
use crate::diagnosis::{self, Cause};
use crate::error::CommandError;
use crate::link::random;
use crate::names::{Name, Timestamp};
use crate::relationship::{self, Change, Wish};
use crate::store::{Module, Node, NodeStatus, Relationship, Store, StoreError};
use crate::vault::{Custody, Vault, VaultError};
use akm_target::TargetUrl;
use arguments::{Arguments, AsrCommand, Command, NodeCommand, ProvisionArguments, ReplaceArguments};

/// Longest passphrase file, in bytes.
const PASSPHRASE_MAX: u64 = 4096;

/// Runs the command line; returns the exit code.
pub fn main() -> u8 {
    let memory = akm_process::protect();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are asked for; everything else is a usage error.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return code;
        }
    };
    // Who stays running tells what happens in its log.
    let stays = matches!(arguments.command, Command::Serve { .. });
    start_log(arguments.verbose.saturating_add(u8::from(stays)));
    tracing::debug!("{memory}");
    match carry_out(&arguments) {
        Ok(code) => code,
        Err(error) => {
            if arguments.json {
                show::error(&error);
            }
            // Where nobody can be told, as on a full disk, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "akm: {error}");
            error.exit_code()
        }
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        2 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // A line that is lost, as on a full disk, must not stop the command.
        .log_internal_errors(false)
        .init();
}

/// Returns the exit code; what an error would say has been said where that is not 0.
fn carry_out(arguments: &Arguments) -> Result<u8, CommandError> {
    match &arguments.command {
        Command::Init { name, passphrase, vault } => {
            init(arguments, name.as_deref(), *passphrase, vault.as_deref())
        }
        Command::Provision(provision) => self::provision(arguments, provision),
        Command::Verify { node, all } => return verify(arguments, node.as_deref(), *all),
        Command::Node(NodeCommand::List) => show::nodes(&open_store(arguments)?, arguments.json),
        Command::Node(NodeCommand::Show { node }) => {
            let store = open_store(arguments)?;
            let node = node_named(&store, &name(node)?)?;
            let at_node = (node.status == NodeStatus::Active).then(|| relationship::held_by(&store, &node));
            show::node(&store, &node, at_node.as_ref(), arguments.json)?;
            let reached = at_node.as_ref().is_some_and(Result::is_ok).then_some(node.id);
            let heard = at_node.and_then(Result::ok).unwrap_or_default();
            carry_on(&store, reached.into_iter().collect(), &heard)
        }
        Command::Node(NodeCommand::Replace { old, order }) => return replace(arguments, old, order),
        Command::Node(NodeCommand::Remove { node, force }) => {
            let store = open_store(arguments)?;
            let name = name(node)?;
            let removal = ceremony::remove(&store, &name, *force)?;
            show::removal(&name, &removal, arguments.json)
        }
        Command::Asr(AsrCommand::Create { name: asr, members, policy }) => {
            let asr = name(asr)?;
            let members = names(members)?;
            let policy = policy.policy()?;
            let store = open_store(arguments)?;
            let reports = relationship::create(&store, &asr, &members, policy, &mut note)?;
            show::members(&store, &asr, &reports, arguments.json)
        }
        Command::Asr(AsrCommand::List) => show::asrs(&open_store(arguments)?, arguments.json),
        Command::Asr(AsrCommand::Show { name: asr }) => {
            let asr = name(asr)?;
            let store = open_store(arguments)?;
            let found = asr_named(&store, &asr)?;
            let mut reports = relationship::show(&store, &found)?;
            let parked = relationship::tasks(&store)?.len();
            let reached = reports.iter().filter(|report| report.status.is_ok()).map(|report| report.node.id);
            let heard: Vec<_> =
                reports.iter().filter_map(|report| report.status.as_ref().ok().copied()).collect();
            let carried_on = carry_on(&store, reached.collect(), &heard);
            // What is shown is how it stands when this is done.
            if let Some(now) = store.asr_by_name(&asr)?
                && (now.sds.generation() != found.sds.generation()
                    || relationship::tasks(&store)?.len() != parked)
            {
                reports = relationship::show(&store, &now)?;
            }
            show::members(&store, &asr, &reports, arguments.json)?;
            carried_on?;
            return Ok(worst(reports.iter().map(relationship::MemberReport::exit_code)));
        }
        Command::Asr(AsrCommand::Add { name, members, absent }) => {
            let wish = Wish::Add(names(members)?);
            change(arguments, name, wish, absent.without_absent)
        }
        Command::Asr(AsrCommand::Remove { name, members, absent }) => {
            let wish = Wish::Remove(names(members)?);
            change(arguments, name, wish, absent.without_absent)
        }
        Command::Asr(AsrCommand::Renew { name, suspect, absent }) => {
            change(arguments, name, Wish::Renew { suspect: *suspect }, absent.without_absent)
        }
        Command::Asr(AsrCommand::Policy { name: asr, policy, absent }) => {
            let found = asr_named(&open_store(arguments)?, &name(asr)?)?;
            let present = Policy::parse(found.sds.policy())
                .map_err(|_| CommandError::Failed(format!("the policy of ASR {asr} is of a later akm")))?;
            change(arguments, asr, Wish::Policy(policy.change(present)?), absent.without_absent)
        }
        Command::Asr(AsrCommand::Delete { name: asr }) => {
            let asr = name(asr)?;
            let store = open_store(arguments)?;
            relationship::delete(&store, &asr, &mut note)?;
            show::deleted(&asr, arguments.json)
        }
        Command::Diagnose { one, other, asr } => return diagnose(arguments, one, other, asr.as_deref()),
        Command::Serve { metrics, every } => {
            let every = arguments::duration("every", every)?;
            crate::serve::serve(&open_store(arguments)?, *metrics, every)
        }
        Command::Tasks => {
            let store = open_store(arguments)?;
            show::tasks(&relationship::tasks(&store)?, arguments.json)
        }
        Command::Element(command) => return element::carry_out(command, arguments.json),
        Command::Demo { keep } => crate::demo::run(*keep, arguments.json),
    }
    .map(|()| 0)
}

fn init(
    arguments: &Arguments,
    name: Option<&str>,
    passphrase: bool,
    element: Option<&str>,
) -> Result<(), CommandError> {
    let element = element.map(element::spec).transpose()?;
    let home = home(arguments)?;
    let name = match name {
        Some(text) => self::name(text)?,
        None => default_name(),
    };
    match Vault::custody(&home) {
        Ok(Some(_)) => {
            // Vault and store are made one after the other: a cut-off init goes on.
            let vault = open_vault(arguments, &home)?;
            match Store::open(&home, &vault) {
                Ok(store) => Err(CommandError::Exists(format!(
                    "{} is the home of module {} already",
                    home.display(),
                    store.module().name
                ))),
                Err(StoreError::NoModule { .. }) => finish_init(&home, &vault, name, arguments.json),
                Err(error) => Err(error.into()),
            }
        }
        Ok(None) | Err(VaultError::Missing { .. }) if Store::exists(&home) => {
            Err(CommandError::Failed(format!(
                "there is a module in {}, but its vault is gone: restore vault.key, vault.json or vault.element from your backup",
                home.display()
            )))
        }
        Ok(None) | Err(VaultError::Missing { .. }) => {
            let vault = if let Some(element) = &element {
                let (vault, description) = Vault::create_in_element(&home, element)?;
                if let Some(warning) = element::warning(&description) {
                    eprintln!("akm: the vault key is in a {} element: {warning}", description.kind);
                }
                vault
            } else if passphrase || arguments.passphrase_file.is_some() {
                Vault::create_with_passphrase(&home, &read_passphrase(arguments, true)?)?
            } else {
                Vault::create_with_key_file(&home)?
            };
            finish_init(&home, &vault, name, arguments.json)
        }
        Err(error) => Err(error.into()),
    }
}

fn finish_init(home: &Path, vault: &Vault, name: Name, json: bool) -> Result<(), CommandError> {
    let module = Module { name, root: AkmId::from_random(random()), created_at: Timestamp::now() };
    let store = Store::create(home, vault, &module)?;
    show::module(&store, json)
}

/// The host name, where it is a name that we allow.
fn default_name() -> Name {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    host.parse().unwrap_or_else(|_| "root".parse().expect("a valid name"))
}

fn provision(arguments: &Arguments, provision: &ProvisionArguments) -> Result<(), CommandError> {
    let mut printer = Printer { json: arguments.json, steps: Vec::new(), notes: Vec::new() };
    let node = match (&provision.attach, &provision.resume) {
        (Some(element), _) => {
            let order = attach_order(provision, element)?;
            ceremony::attach(&open_store(arguments)?, &order, &mut printer)?
        }
        (None, Some(resumed)) => resume(arguments, provision, resumed.as_deref(), &mut printer)?,
        (None, None) => {
            let order = order(provision)?;
            ceremony::provision(&open_store(arguments)?, &order, &mut printer)?
        }
    };
    if node.status != NodeStatus::Active {
        return Err(ceremony::waits(&node));
    }
    if let Some(text) = ceremony::left_behind(&open_store(arguments)?, &node)? {
        printer.note(&text);
    }
    show::provisioned(&node, &printer.steps, &printer.notes, arguments.json)
}

/// Returns the exit code: that of the first ASR that could not be changed, if there is one.
fn replace(arguments: &Arguments, old: &str, replacement: &ReplaceArguments) -> Result<u8, CommandError> {
    let (old, order) = (name(old)?, order(&replacement.as_provision())?);
    let store = open_store(arguments)?;
    let mut printer = Printer { json: arguments.json, steps: Vec::new(), notes: Vec::new() };
    let node = ceremony::replace(&store, &old, &order, &mut printer)?;
    let Some(former) = node.replaces else {
        return Err(CommandError::Failed(format!("node {} replaces nobody", node.name)));
    };
    let results = relationship::take_places(&store, former, &node, &mut note)?;
    show::replaced(&old, &node, &printer.steps, &results, arguments.json)?;
    Ok(worst(results.iter().map(|(_, result)| result.as_ref().err().map_or(0, CommandError::exit_code))))
}

fn resume(
    arguments: &Arguments,
    provision: &ProvisionArguments,
    name: Option<&str>,
    printer: &mut Printer,
) -> Result<Node, CommandError> {
    if let (Some(name), Some(_)) = (name, &provision.target) {
        let (name, order) = (self::name(name)?, order(provision)?);
        return ceremony::arrive(&open_store(arguments)?, &name, &order, printer);
    }
    let [element, stack, listen, endpoint, ssh_config] = [
        provision.element.is_some(),
        provision.stack.is_some(),
        provision.listen.is_some(),
        provision.endpoint.is_some(),
        provision.ssh_config.is_some(),
    ];
    if element || stack || listen || endpoint || ssh_config {
        return Err(CommandError::Usage(
            "--resume takes --element, --stack, --listen, --endpoint and --ssh-config only with the target into which an \
             element has come (akm provision TARGET --resume NODE); for a ceremony that was cut off, repeat its command \
             with them"
                .to_owned(),
        ));
    }
    let name = name.or(provision.target.as_deref()).map(self::name).transpose()?;
    let card_keys = absolute_path(provision.card_keys.as_deref())?;
    ceremony::resume(&open_store(arguments)?, name.as_ref(), card_keys.as_deref(), printer)
}

fn attach_order(provision: &ProvisionArguments, element: &str) -> Result<AttachOrder, CommandError> {
    let name =
        provision.name.as_deref().ok_or_else(|| CommandError::Usage("--attach needs --name".to_owned()))?;
    Ok(AttachOrder {
        name: self::name(name)?,
        element: element::spec(element)?,
        stack: absolute_path(provision.stack.as_deref())?,
        card_keys: absolute_path(provision.card_keys.as_deref())?,
    })
}

fn absolute_path(path: Option<&Path>) -> Result<Option<PathBuf>, CommandError> {
    path.map(std::path::absolute)
        .transpose()
        .map_err(|error| CommandError::Usage(format!("a path is not usable: {error}")))
}

fn order(provision: &ProvisionArguments) -> Result<Order, CommandError> {
    let usage = |error: &dyn std::fmt::Display| CommandError::Usage(error.to_string());
    let text = provision.target.as_deref().ok_or_else(|| {
        CommandError::Usage("name a target: local:DIR or ssh://user@host[:port] (or use --resume)".to_owned())
    })?;
    let target: TargetUrl = text.parse().map_err(|error| usage(&error))?;
    let element = provision.element.as_deref().map(element::spec).transpose()?;
    let listen = match &provision.listen {
        Some(text) => Some(text.parse().map_err(|_| {
            CommandError::Usage(format!("--listen {text}: an address and a port, as in 192.0.2.7:47100"))
        })?),
        None => None,
    };
    if let Some(endpoint) = &provision.endpoint
        && !is_endpoint(endpoint)
    {
        return Err(CommandError::Usage(format!(
            "--endpoint {endpoint}: a host and a port, as in device.example:47100"
        )));
    }
    Ok(Order {
        target,
        name: provision.name.as_deref().map(name).transpose()?,
        element,
        stack: absolute_path(provision.stack.as_deref())?,
        listen,
        endpoint: provision.endpoint.clone(),
        ssh_config: absolute_path(provision.ssh_config.as_deref())?,
        card_keys: absolute_path(provision.card_keys.as_deref())?,
        again: provision.again,
    })
}

fn is_endpoint(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:%".contains(&byte))
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

fn verify(arguments: &Arguments, node: Option<&str>, all: bool) -> Result<u8, CommandError> {
    let store = open_store(arguments)?;
    let nodes = match node {
        Some(text) => vec![node_named(&store, &name(text)?)?],
        None if all => store.nodes()?.into_iter().filter(|node| node.status == NodeStatus::Active).collect(),
        None => return Err(CommandError::Usage("name a node, or use --all".to_owned())),
    };
    if nodes.is_empty() {
        return Err(CommandError::Exists("there is no active node: nothing to verify".to_owned()));
    }
    let results: Vec<_> =
        nodes.into_iter().map(|node| (node.clone(), ceremony::verify(&store, &node))).collect();
    show::verified(&store, &results, arguments.json)?;
    let reached = results.iter().filter(|(_, result)| result.is_ok()).map(|(node, _)| node.id);
    let heard: Vec<_> = results
        .iter()
        .filter_map(|(_, result)| result.as_ref().ok())
        .flat_map(|verified| verified.identity.relationships.iter().copied())
        .collect();
    carry_on(&store, reached.collect(), &heard)?;
    Ok(worst(results.iter().map(|(_, result)| result.as_ref().err().map_or(0, CommandError::exit_code))))
}

/// Returns the exit code: 0 if no cause was found, 7 if one of the two does not answer, else 5.
fn diagnose(arguments: &Arguments, one: &str, other: &str, asr: Option<&str>) -> Result<u8, CommandError> {
    if one == other {
        return Err(CommandError::Usage("name two different nodes".to_owned()));
    }
    let store = open_store(arguments)?;
    let [one, other] = [node_named(&store, &name(one)?)?, node_named(&store, &name(other)?)?];
    let asr = asr.map(|asr| asr_named(&store, &name(asr)?)).transpose()?;
    let findings = diagnosis::diagnose(&store, [&one, &other], asr.as_ref())?;
    show::diagnosis([&one.name, &other.name], &findings, arguments.json)?;
    let unreachable = CommandError::Unreachable(String::new()).exit_code();
    let verification = CommandError::Verification(String::new()).exit_code();
    Ok(match findings.first().map(|finding| finding.cause) {
        None => 0,
        Some(Cause::NotRunning | Cause::Unreachable) => unreachable,
        Some(_) => verification,
    })
}

/// Notes something on standard error.
fn note(text: &str) {
    // Where nobody can be told, as on a full disk, the command still goes on.
    let _ = writeln!(std::io::stderr(), "akm: {text}");
}

/// Does the parked work of nodes that this command has reached, and renews what they have found back in.
fn carry_on(
    store: &Store,
    reached: BTreeSet<AkmId>,
    heard: &[RelationshipStatus],
) -> Result<(), CommandError> {
    // One does not wait for the other.
    let carried_on = relationship::carry_on(store, &reached, &mut note);
    let renewed = relationship::renew_found_back(store, heard, &mut note)?.failed.map_or(Ok(()), Err);
    carried_on.and(renewed)
}

fn change(arguments: &Arguments, asr: &str, wish: Wish, without_absent: bool) -> Result<(), CommandError> {
    let asr = name(asr)?;
    let store = open_store(arguments)?;
    let change = Change { wish, without_absent };
    let reports = relationship::change(&store, &asr, &change, &mut note)?;
    show::members(&store, &asr, &reports, arguments.json)
}

fn asr_named(store: &Store, asr: &Name) -> Result<Relationship, CommandError> {
    store
        .asr_by_name(asr)?
        .ok_or_else(|| CommandError::Usage(format!("there is no ASR {asr} (akm asr list shows all)")))
}

fn names(texts: &[String]) -> Result<Vec<Name>, CommandError> {
    texts.iter().map(|text| name(text)).collect()
}

/// The exit code that tells for several nodes: who is not what it should be counts more than who cannot be
/// reached.
fn worst(codes: impl Iterator<Item = u8>) -> u8 {
    let mut failed: Vec<u8> = codes.filter(|code| *code != 0).collect();
    let verification = CommandError::Verification(String::new()).exit_code();
    failed.sort_by_key(|code| *code != verification);
    failed.first().copied().unwrap_or(0)
}

fn name(text: &str) -> Result<Name, CommandError> {
    text.parse().map_err(|error| CommandError::Usage(format!("{text:?}: {error}")))
}

fn node_named(store: &Store, name: &Name) -> Result<Node, CommandError> {
    if let Some(node) = store.node_by_name(name)? {
        return Ok(node);
    }
    let mut unfinished = store.unfinished_ceremonies()?.into_iter().map(|(node, _)| node);
    unfinished
        .find(|node| node.name == *name)
        .ok_or_else(|| CommandError::Usage(format!("there is no node {name} (akm node list shows all)")))
}

/// `--home`, `$AKM_HOME`, or the user's data directory.
fn home(arguments: &Arguments) -> Result<PathBuf, CommandError> {
    if let Some(home) = &arguments.home {
        return Ok(home.clone());
    }
    let data =
        std::env::var_os("XDG_DATA_HOME").filter(|dir| Path::new(dir).is_absolute()).map(PathBuf::from);
    let own = std::env::home_dir().map(|dir| dir.join(".local/share"));
    data.or(own)
        .map(|dir| dir.join("akm"))
        .ok_or_else(|| CommandError::Usage("there is no home directory: set AKM_HOME".to_owned()))
}

fn open_store(arguments: &Arguments) -> Result<Store, CommandError> {
    let home = home(arguments)?;
    let vault = open_vault(arguments, &home)?;
    Store::open(&home, &vault).map_err(|error| match error {
        StoreError::NoModule { home } => CommandError::Failed(format!(
            "{} is missing or empty, and the vault is there: put it back from a backup; only if `akm init` was cut off \
             here, run it again",
            home.join("store.db").display()
        )),
        error => error.into(),
    })
}

fn open_vault(arguments: &Arguments, home: &Path) -> Result<Vault, CommandError> {
    match Vault::open(home, || {
        read_passphrase(arguments, false).map_err(|error| std::io::Error::other(error.to_string()))
    }) {
        Err(VaultError::Missing { .. }) if Store::exists(home) => Err(CommandError::Failed(format!(
            "the vault of the module in {} is gone: restore vault.key, vault.json or vault.element from your backup",
            home.display()
        ))),
        Err(VaultError::Missing { .. }) => Err(CommandError::Failed(format!(
            "no module here: run `akm init` (nothing in {})",
            home.display()
        ))),
        result => Ok(result?),
    }
}

/// From the file that was named, else from the terminal; never from an argument or the environment.
fn read_passphrase(arguments: &Arguments, twice: bool) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    if let Some(path) = &arguments.passphrase_file {
        let unreadable = |error| {
            let advice = akm_disk::advice(&error);
            CommandError::Failed(format!(
                "cannot read the passphrase from {}: {error}{advice}",
                path.display()
            ))
        };
        // As large as it may get: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(PASSPHRASE_MAX as usize + 1));
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        // A pipe or terminal is private by other means.
        if metadata.is_file() {
            private::check(path, &metadata, private::OWNER_ONLY)
                .map_err(|error| CommandError::Failed(error.to_string()))?;
        }
        file.take(PASSPHRASE_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        return Ok(bytes);
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map(|text| Zeroizing::new(text.into_bytes())).map_err(|error| {
            CommandError::Failed(format!(
                "the vault needs its passphrase, and there is no terminal to ask at ({error}): use \
                 --passphrase-file FILE"
            ))
        })
    };
    let passphrase = ask("Passphrase of the vault: ")?;
    if twice && *ask("Once more: ")? != *passphrase {
        return Err(CommandError::Usage("the two passphrases differ".to_owned()));
    }
    Ok(passphrase)
}

/// Prints steps as they end, or gathers them for JSON.
struct Printer {
    json: bool,
    steps: Vec<StepReport>,
    notes: Vec<String>,
}

impl Observer for Printer {
    fn step(&mut self, report: &StepReport) {
        if !self.json {
            show::step(report);
        }
        self.steps.push(report.clone());
    }

    fn note(&mut self, text: &str) {
        if !self.json {
            eprintln!("akm: {text}");
        }
        self.notes.push(text.to_owned());
    }
}

/// Whether a vault asks for a passphrase.
pub(crate) fn custody_word(home: &Path) -> &'static str {
    match Vault::custody(home) {
        Ok(Some(Custody::Passphrase)) => "passphrase",
        Ok(Some(Custody::Element)) => "secure element",
        _ => "key file",
    }
}
