//! What is told while a command goes on: the sentences, and where they go.

use std::env;
use std::io::{IsTerminal, stderr, stdout};
use std::time::Duration;

use akm_provision::names::Name;
use akm_provision::progress::{OfAsr, OfCeremony, OfRemoval, OfRenewal, OfWork, Progress};
use akm_provision::view::Step;

use akm_process::plain;
use indicatif::{ProgressBar, ProgressStyle};

use super::{milliseconds, note, say};
use crate::home::Options;

/// How often what turns on a terminal moves.
const TURN: Duration = Duration::from_millis(100);

/// Prints steps and notes as they come, or gathers them for JSON. On a terminal it shows the step that goes on.
pub(crate) struct Printer {
    json: bool,
    is_lively: bool,
    /// The step that goes on; it takes itself off the terminal.
    present: Option<Turning>,
    /// The steps that have come to their end.
    pub(crate) steps: Vec<Step>,
    /// All else that was told, as it is shown.
    pub(crate) notes: Vec<String>,
}

impl Printer {
    pub(crate) fn new(options: &Options) -> Self {
        // Lines of the log would stand in between.
        let is_lively = !options.json
            && options.verbose == 0
            && stdout().is_terminal()
            && stderr().is_terminal()
            && env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self { json: options.json, is_lively, present: None, steps: Vec::new(), notes: Vec::new() }
    }

    /// Takes what is told.
    pub(crate) fn tell(&mut self, progress: Progress) {
        let text = sentence(&progress);
        self.present = None;
        match progress {
            Progress::Begins { .. } if self.is_lively => self.present = Some(Turning::new(text)),
            Progress::Begins { .. } => {}
            Progress::Step(report) => {
                if !self.json {
                    // The steps are told while they happen; if nobody reads them, the ceremony goes on.
                    let _ = say(&text);
                }
                self.steps.push((&report).into());
            }
            Progress::VaultInElement { .. }
            | Progress::Ceremony(_)
            | Progress::Removal(_)
            | Progress::Renewal(_)
            | Progress::Asr(_)
            | Progress::CarriedOn(_) => {
                if !self.json {
                    note(&text);
                }
                self.notes.push(text);
            }
        }
    }
}

/// A line on standard error that turns as long as this lives, with its seconds.
struct Turning(ProgressBar);

impl Turning {
    fn new(text: String) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner()
            .with_style(style.tick_chars("|/-\\ "))
            .with_message(plain(&text).into_owned());
        bar.tick();
        bar.enable_steady_tick(TURN);
        Self(bar)
    }
}

impl Drop for Turning {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Notes on standard error what is told.
pub(crate) fn tell(progress: Progress) {
    note(&sentence(&progress));
}

/// What is told, in the words of the command line.
pub(crate) fn sentence(progress: &Progress) -> String {
    match progress {
        Progress::VaultInElement { kind, warning } => {
            format!("the vault key is in a {kind} element: {warning}")
        }
        Progress::Begins { number, name } => format!("step {number} {name}"),
        Progress::Step(report) => {
            let took = milliseconds(report.duration);
            format!("step {} {:<8} {took:>8}  {}", report.number, report.name, report.outcome)
        }
        Progress::Ceremony(of) => of_ceremony(of),
        Progress::Removal(of) => of_removal(of),
        Progress::Renewal(of) => of_renewal(of),
        Progress::Asr(of) => of_asr(of),
        Progress::CarriedOn(of) => of_work(of),
    }
}

fn of_ceremony(of: &OfCeremony) -> String {
    match of {
        OfCeremony::GoesOn { node } => format!("going on with the ceremony of node {node}"),
        OfCeremony::StackAnew { why } => format!("{why}; its stack is installed anew"),
        OfCeremony::SoftwareElement { node } => {
            format!("the element of {node} is software: it protects nothing from root on that machine")
        }
        OfCeremony::NobodyRestarts { node, dir } => format!(
            "nobody restarts the stack of {node} after a reboot; start it with {dir}/current/akmd run --dir {dir} \
             --detach"
        ),
        OfCeremony::LeftBehind { node, target, asrs } => format!(
            "the old node was a member of {}: it is gone from there, and the new one is no member; to have it in the \
             old one's place: akm node replace {node} {target}",
            asrs.join(", ")
        ),
    }
}

fn of_removal(of: &OfRemoval) -> String {
    match of {
        OfRemoval::StillListed { node, asrs } => format!(
            "{node} is still listed as a member of {}: shut it out there (akm asr remove ASR {node}), above all if its \
             credentials may have been copied",
            asrs.join(", ")
        ),
        OfRemoval::StackLeft { why } => {
            format!("the credentials are erased, but the stack could not be taken off: {why}")
        }
        OfRemoval::MayHold { why } => format!("the device may still hold its credentials: {why}"),
    }
}

fn of_renewal(of: &OfRenewal) -> String {
    match of {
        OfRenewal::BackupsAreOver { node } => backups_are_over(node.as_str()),
        OfRenewal::HealsNothing { node } => heals_nothing(node.as_str()),
        OfRenewal::HealsIfNobodyIsRoot { node } => heals_if_nobody_is_root(node.as_str()),
    }
}

fn backups_are_over(nodes: &str) -> String {
    format!(
        "a backup of this module from before this does not open {nodes} any more: make another one when this is done"
    )
}

fn heals_nothing(nodes: &str) -> String {
    format!(
        "the element of {nodes} is software: whoever had its content before reads the new keys too; to shut them out, \
         provision the device again"
    )
}

fn heals_if_nobody_is_root(nodes: &str) -> String {
    format!(
        "the token of {nodes} attests no key: this shuts out only who is not root there while this command runs"
    )
}

fn listed(nodes: &[Name]) -> String {
    nodes.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

fn of_asr(of: &OfAsr) -> String {
    match of {
        OfAsr::BackupsAreOver { nodes } => backups_are_over(&listed(nodes)),
        OfAsr::HealsNothing { nodes } => heals_nothing(&listed(nodes)),
        OfAsr::HealsIfNobodyIsRoot { nodes } => heals_if_nobody_is_root(&listed(nodes)),
        OfAsr::GoesOn { asr } => format!("going on with ASR {asr}, which was parked"),
        OfAsr::ChangeGoesOn { asr, generation } => {
            format!("going on with generation {generation} of ASR {asr}, which was parked")
        }
        OfAsr::GivenUp { asr } => {
            format!(
                "an earlier ASR {asr} has lost members and is of no use any more: it is given up and made anew"
            )
        }
        OfAsr::GivenUpLeft { node, why } => format!(
            "{why}; what {node} holds of the ASR that was given up is of no use to anybody, and is erased before it \
             takes in another"
        ),
        OfAsr::Loopback { near, far } => format!(
            "{near} is known at a loopback address, which {far} cannot reach unless it is on the same machine"
        ),
        OfAsr::ErasesLater { asr, node, why } => {
            format!("{why}; what {node} holds of ASR {asr} is erased when it is next reached (akm tasks)")
        }
    }
}

fn of_work(of: &OfWork) -> String {
    match of {
        OfWork::FoundBack { asr } => {
            format!("a member of ASR {asr} found back to the others by itself: the ASR gets a new generation")
        }
        OfWork::Renewed { asr } => format!("ASR {asr} is renewed"),
        OfWork::RenewedLater { why, .. } => why.to_string(),
        OfWork::Generation { asr, generation, lacking: 0 } => {
            format!("generation {generation} of ASR {asr}, which was parked, is active at all members")
        }
        OfWork::Generation { asr, generation, lacking } => {
            format!(
                "generation {generation} of ASR {asr}, which was parked, went on; {lacking} members lack it"
            )
        }
        OfWork::Erased { node } => {
            format!("{node} was reached, and erased what it held of ASRs that it is no member of")
        }
    }
}
