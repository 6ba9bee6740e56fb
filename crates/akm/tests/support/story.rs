//! Stories: Markdown files in which commands stand with what they said and how they ended.
//!
//! ````text
//! ```console
//! $ akm verify pump
//! ? 7
//! 2> akm: node pump does not answer ...
//! ```
//! ````
//!
//! All commands of a story run in one directory with `AKM_HOME` in it. `? CODE` is the exit code where it
//! is not 0, lines of standard error begin with `2> `. `&` at the end starts a command that listens; its
//! words stand under the next `$ wait`. What differs from run to run is replaced, the same by the same:
//! `[ID 1]` is one identifier throughout a story.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use akm_counterparts::ports::Ports;
use regex::{Captures, Regex};
use serde_json::Value;

use super::plant::{AKM, Done, Plant};

const FENCE: &str = "```";

/// Tells a story again and compares; with `TRYCMD=overwrite` writes down what was said.
#[track_caller]
pub(crate) fn check(path: &Path) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let told = Teller::new().tell(&text);
    if std::env::var("TRYCMD").is_ok_and(|wish| wish == "overwrite") {
        fs::write(path, &told).expect("the story can be written");
        return;
    }
    let (was, is): (Vec<&str>, Vec<&str>) = (text.lines().collect(), told.lines().collect());
    if let Some(at) = (0..was.len().max(is.len())).find(|at| was.get(*at) != is.get(*at)) {
        let from = at.saturating_sub(8);
        let excerpt = |lines: &[&str]| lines[from.min(lines.len())..(at + 8).min(lines.len())].join("\n");
        panic!(
            "{} differs from line {}.\nrecorded:\n{}\n\nsaid:\n{}\n",
            path.display(),
            at + 1,
            excerpt(&was),
            excerpt(&is)
        );
    }
}

/// Which program ended with which code, in the recorded cases of a file.
pub(crate) fn exit_codes(text: &str) -> BTreeSet<(&'static str, i32)> {
    let mut codes = BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let words = shlex::split(command).expect("a command");
        let program = words.iter().find_map(|word| match word.rsplit('/').next() {
            Some("akm") => Some("akm"),
            Some("akmd") => Some("akmd"),
            _ => None,
        });
        let code = match lines.peek().and_then(|line| line.strip_prefix("? ")) {
            None => 0,
            Some("failed") => 1,
            Some(code) => code.parse().expect("an exit code"),
        };
        codes.extend(program.map(|program| (program, code)));
    }
    codes
}

/// Runs the commands of a story.
struct Teller {
    plant: Plant,
    /// From which ports another module (`--home other`) gives its nodes theirs: what is recorded tells them apart.
    others: Ports,
    /// What listens, with the first character that it said on standard error.
    listening: Vec<(char, Child)>,
    redactions: Redactions,
}

impl Teller {
    fn new() -> Self {
        let plant = Plant::bare();
        let place = plant.place().display().to_string();
        Self { plant, others: Ports::reserve(1), listening: Vec::new(), redactions: Redactions::new(&place) }
    }

    /// The story as it went this time.
    fn tell(&mut self, text: &str) -> String {
        let mut told = String::new();
        let mut is_inside = false;
        for line in text.lines() {
            if line.starts_with(FENCE) {
                is_inside = !is_inside;
            } else if is_inside {
                let Some(command) = line.strip_prefix("$ ") else { continue };
                told.push_str(&format!("{line}\n"));
                told.push_str(&self.run(command));
                continue;
            }
            told.push_str(line);
            told.push('\n');
        }
        told
    }

    fn run(&mut self, text: &str) -> String {
        if text == "wait" {
            let listening = std::mem::take(&mut self.listening);
            let mut told = String::new();
            for (first, child) in listening {
                let mut done = Done::of(child.wait_with_output().expect("it ends"));
                done.stderr.insert(0, first);
                told.push_str(&self.redactions.report(&done));
            }
            return told;
        }
        if let Some(text) = text.strip_suffix(" &") {
            let mut child =
                self.command(text).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(text);
            // It says so when the stack has taken its wish.
            let mut first = [0];
            let stderr = child.stderr.as_mut().expect("a pipe");
            stderr.read_exact(&mut first).expect("a line that says it is listening");
            self.listening.push((char::from(first[0]), child));
            return String::new();
        }
        let done = Done::of(self.command(text).output().unwrap_or_else(|error| panic!("{text}: {error}")));
        self.redactions.report(&done)
    }

    fn command(&self, text: &str) -> Command {
        let words = shlex::split(text).unwrap_or_else(|| panic!("{text}: not a command"));
        let programs = Path::new(AKM).parent().expect("a directory");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut all = vec![programs.to_owned()];
        all.extend(std::env::split_paths(&path));
        let program = match words[0].as_str() {
            name @ ("akm" | "akmd") => programs.join(name),
            path if path.contains('/') => self.plant.place().join(path),
            name => name.into(),
        };
        let of_another_module = words.windows(2).any(|pair| pair == ["--home", "other"]);
        let ports = if of_another_module { self.others.environment() } else { self.plant.ports() };
        let mut command = Command::new(program);
        command
            .args(&words[1..])
            .env("PATH", std::env::join_paths(all).expect("a search path"))
            .env("AKM_HOME", self.plant.home())
            .envs([ports])
            .env("LC_ALL", "C")
            .current_dir(self.plant.place())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        for (_, child) in &mut self.listening {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Replaces what differs from run to run.
struct Redactions {
    place: String,
    /// Replaced, each with the number of its first appearance.
    numbered: Vec<(Regex, &'static str)>,
    /// Replaced by the same text always.
    plain: Vec<(Regex, &'static str)>,
    seen: BTreeMap<&'static str, Vec<String>>,
}

impl Redactions {
    fn new(place: &str) -> Self {
        let regex = |text: &str| Regex::new(text).expect("a pattern");
        let numbered = [
            (r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "ID"),
            (r"\b[0-9a-f]{16,64}\b", "HEX"),
            (r"127\.0\.0\.1:[0-9]{4,5}", "ADDRESS"),
        ];
        let plain = [
            (r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "[TIMESTAMP]"),
            (r"\b[0-9]+ ms\b|\b[0-9]+\.[0-9] s\b", "[TIME]"),
            (r"heard [0-9]+ s ago", "heard [N] s ago"),
            (
                r#""(milliseconds|epoch|sent|accepted|heard_seconds_ago|counter|sender)":( ?)[0-9]+"#,
                r#""$1":$2[N]"#,
            ),
            // A member begins its first epoch by itself, soon after it became active.
            (
                r#""epoch": null,(\s+"generation": [0-9]+,\s+"node": "[^"]*",\s+"phase": "Established")"#,
                r#""epoch": [N],$1"#,
            ),
            (r#""frame":"[A-Za-z0-9+/=]+""#, r#""frame":"[FRAME]""#),
            (
                r"epoch ([0-9]+|-); [0-9]+ frames sent, [0-9]+ accepted",
                "epoch [N]; [N] frames sent, [N] accepted",
            ),
            (r"sender [0-9]+ epoch [0-9]+ counter [0-9]+", "sender [N] epoch [N] counter [N]"),
            (r"(?m)  (?:[0-9]+|-)( +)(Established|Staged)$", "  [N]$1$2"),
            (r"\(process [0-9]+\)", "(process [N])"),
            (r"\b0\.1\.0\b", "[VERSION]"),
            // Tables are as wide as what stands in them.
            (r"(\S) {2,}", "$1  "),
        ];
        Self {
            place: place.to_owned(),
            numbered: numbered.map(|(pattern, name)| (regex(pattern), name)).into(),
            plain: plain.map(|(pattern, text)| (regex(pattern), text)).into(),
            seen: BTreeMap::new(),
        }
    }

    fn report(&mut self, done: &Done) -> String {
        let mut told = match done.code {
            Some(0) => String::new(),
            Some(code) => format!("? {code}\n"),
            None => "? killed\n".to_owned(),
        };
        for line in self.replace(&in_order(&done.stdout)).lines() {
            told.push_str(&format!("{line}\n"));
        }
        for line in self.replace(&done.stderr).lines() {
            told.push_str(&format!("2> {line}\n"));
        }
        told
    }

    fn replace(&mut self, text: &str) -> String {
        let mut text = text.replace(&self.place, "[PLACE]");
        for (pattern, name) in &self.numbered {
            let seen = self.seen.entry(name).or_default();
            let replace = |found: &Captures<'_>| {
                let at = seen.iter().position(|known| *known == found[0]).unwrap_or_else(|| {
                    seen.push(found[0].to_owned());
                    seen.len() - 1
                });
                format!("[{name} {}]", at + 1)
            };
            text = pattern.replace_all(&text, replace).into_owned();
        }
        for (pattern, with) in &self.plain {
            text = pattern.replace_all(&text, *with).into_owned();
        }
        text
    }
}

/// Members stand in the order of random identifiers in the JSON of a node: here by name.
fn in_order(stdout: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(stdout) else { return stdout.to_owned() };
    let mut is_changed = false;
    for relationship in value.get_mut("relationships").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(members) = relationship.get_mut("members").and_then(Value::as_array_mut) {
            members.sort_by_key(|member| member["name"].to_string());
            is_changed = true;
        }
    }
    if is_changed { format!("{value:#}\n") } else { stdout.to_owned() }
}
