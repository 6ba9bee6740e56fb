//! The way to the TPM breaks, at every command.

use std::sync::{Arc, Mutex};

use super::*;
use crate::tpm2::transport::Transport;

/// When a program or its machine dies.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// How many commands it lives; for ever if there is none.
    commands: Option<u32>,
    /// Whether the TPM still does the last one.
    does_last: bool,
    /// Flips a bit of each answer to commands with sessions.
    alters: Option<usize>,
}

#[derive(Clone)]
struct Mortal {
    place: Place,
    plan: Arc<Mutex<Plan>>,
}

impl Mortal {
    fn new(home: &Home, plan: Plan) -> Self {
        Self { place: home.place(), plan: Arc::new(Mutex::new(plan)) }
    }
}

impl Connect for Mortal {
    fn connect(&self) -> Result<Box<dyn Transport>, Failure> {
        if self.plan.lock().unwrap().commands == Some(0) {
            return Err(Failure::Lost("dead".into()));
        }
        Ok(Box::new(MortalTransport { inner: self.place.connect()?, plan: self.plan.clone() }))
    }

    fn is_raw(&self) -> bool {
        true
    }
}

struct MortalTransport {
    inner: Box<dyn Transport>,
    plan: Arc<Mutex<Plan>>,
}

impl Transport for MortalTransport {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut plan = self.plan.lock().unwrap();
        if let Some(commands) = plan.commands {
            if commands == 0 {
                return Err(Failure::Lost("dead".into()));
            }
            plan.commands = Some(commands - 1);
            if commands == 1 {
                if plan.does_last {
                    self.inner.exchange(command)?;
                }
                return Err(Failure::Lost("dying".into()));
            }
        }
        let mut answer = self.inner.exchange(command)?;
        if let (Some(back), [0x80, 0x02, ..]) = (plan.alters, &answer[..]) {
            let at = answer.len() - 1 - back % (answer.len() - 10);
            answer[at] ^= 1;
        }
        Ok(answer)
    }
}

/// Lets `work` die at each of its commands in turn, before and after the TPM did it, until it no longer dies;
/// `check` sees what comes of each.
fn at_each_command(
    mut prepare: impl FnMut() -> Home,
    mut work: impl FnMut(&Home, &Mortal) -> Result<(), ElementError>,
    mut check: impl FnMut(&Home),
) -> u32 {
    for commands in 1.. {
        for does_last in [false, true] {
            let home = prepare();
            let mortal = Mortal::new(&home, Plan { commands: Some(commands), does_last, alters: None });
            let done = work(&home, &mortal);
            let is_whole = mortal.plan.lock().unwrap().commands != Some(0);
            assert_eq!(done.is_ok(), is_whole, "{commands} {does_last}: {done:?}");
            check(&home);
            if is_whole {
                return commands;
            }
            assert!(matches!(done, Err(ElementError::Unavailable(_))), "{done:?}");
        }
    }
    unreachable!("work ends")
}

fn open_by(home: &Home, mortal: &Mortal) -> Result<TpmElement, ElementError> {
    TpmElement::open_by(Box::new(mortal.clone()), &home.spec(), home.directory.path())
}

#[test]
fn create_killed_at_any_command_and_repeated_makes_one_key_and_one_counter() {
    let commands = at_each_command(
        Home::new,
        |home, mortal| {
            let connect = Box::new(mortal.clone());
            TpmElement::create_by(connect, &home.spec(), home.directory.path()).map(drop)
        },
        |home| {
            let mut element = home.create();
            let value = element.value().unwrap();
            assert_eq!(element.count_up(), Ok(value + 1));
            drop(element);
            assert_eq!(home.inside(), Inside::of_one_node());
        },
    );
    assert!(commands > 20, "{commands}");
}

#[test]
fn install_killed_at_any_command_and_repeated_holds_the_root() {
    let commands = at_each_command(
        || {
            let home = Home::new();
            drop(home.create());
            home
        },
        |home, mortal| {
            let mut element = open_by(home, mortal)?;
            let material = element.prepare()?;
            let key = Secret::take(&mut [1; 32]);
            let wrapped = wrap(relationship(1), &key, &element.description(), &material).unwrap();
            element.install(relationship(1), wrapped.expose())
        },
        |home| {
            let mut element = home.open().unwrap();
            install(&mut element, relationship(1), [1; 32]);
            assert_holds(&mut element, relationship(1), [1; 32]);
            drop(element);
            assert_eq!(home.inside(), Inside::of_one_node());
        },
    );
    assert!(commands > 20, "{commands}");
}

#[test]
fn discard_killed_at_any_command_and_repeated_leaves_nothing_of_the_node() {
    at_each_command(
        || {
            let home = Home::new();
            home.create().make_device_key().unwrap();
            home
        },
        |home, mortal| TpmElement::discard_by(Box::new(mortal.clone()), home.directory.path()),
        |home| {
            TpmElement::discard(&home.spec(), home.directory.path()).unwrap();
            assert_eq!(fs::read_dir(home.directory.path()).unwrap().count(), 0);
            assert!(home.inside().indices.is_empty());
        },
    );
}

#[test]
fn device_key_and_counter_killed_at_any_command_go_on() {
    at_each_command(
        || {
            let home = Home::new();
            drop(home.create());
            home
        },
        |home, mortal| {
            let mut element = open_by(home, mortal)?;
            element.make_device_key()?;
            element.count_up()?;
            element.derive(Root::Device, Label::Seal, &[]).map(drop)
        },
        |home| {
            let mut element = home.open().unwrap();
            element.make_device_key().unwrap();
            element.derive(Root::Device, Label::Seal, &[]).unwrap();
            let value = element.value().unwrap();
            assert_eq!(element.count_up(), Ok(value + 1));
            drop(element);
            assert_eq!(home.inside(), Inside::of_one_node());
        },
    );
}

#[test]
fn an_index_that_another_program_took_meanwhile_is_left_to_it() {
    // Dies at the first command after the file was written: the index is chosen, and not there yet.
    let is_intended = |home: &Home| home.directory.path().join(FILE_NAME).exists();
    for commands in 1.. {
        let home = Home::new();
        let plan = Plan { commands: Some(commands), ..Plan::default() };
        let connect = Box::new(Mortal::new(&home, plan));
        TpmElement::create_by(connect, &home.spec(), home.directory.path()).unwrap_err();
        if !is_intended(&home) {
            continue;
        }
        assert!(matches!(home.open(), Err(ElementError::Unavailable(why)) if why.contains("not finished")));
        let index = format!("{COUNTER_FIRST:#x}");
        // Also one that looks like AKM's, with another authorisation.
        home.tool(
            "tpm2_nvdefine",
            &[&index, "-s", "8", "-p", "theirs", "-a", "nt=counter|authread|authwrite|no_da"],
        );
        home.create().value().unwrap();
        assert_eq!(home.inside().indices, [COUNTER_FIRST, COUNTER_FIRST + 1]);
        TpmElement::discard(&home.spec(), home.directory.path()).unwrap();
        assert_eq!(home.inside().indices, [COUNTER_FIRST]);
        return;
    }
}

#[test]
fn an_answer_that_was_altered_on_the_way_is_not_believed() {
    let home = Home::new();
    home.create().make_device_key().unwrap();
    let mortal = Mortal::new(&home, Plan::default());
    let mut element = open_by(&home, &mortal).unwrap();
    let expected = element.derive(Root::Device, Label::Seal, &[]).unwrap();
    for back in 0..200 {
        mortal.plan.lock().unwrap().alters = Some(back);
        for done in [
            element.derive(Root::Device, Label::Seal, &[]).map(drop),
            element.value().map(drop),
            element.random(&mut [0; 32]),
        ] {
            assert!(
                matches!(done, Err(ElementError::Refused(_) | ElementError::Unavailable(_))),
                "{back}: {done:?}"
            );
        }
        mortal.plan.lock().unwrap().alters = None;
        let derived = element.derive(Root::Device, Label::Seal, &[]).unwrap();
        assert!(expected.equals(derived.expose()));
    }
}

#[test]
fn a_tpm_that_went_away_is_unavailable_and_the_next_call_after_its_return_works() {
    let mut home = Home::new();
    let mut element = home.create();
    element.make_device_key().unwrap();
    install(&mut element, relationship(1), [1; 32]);
    let sealed = element.derive(Root::Device, Label::Seal, &[]).unwrap();
    let value = element.count_up().unwrap();
    home.swtpm.kill();
    for words in ["went away", "does not answer"] {
        let done = element.derive(Root::Device, Label::Seal, &[]).map(drop);
        assert!(matches!(&done, Err(ElementError::Unavailable(why)) if why.contains(words)), "{done:?}");
    }
    assert!(matches!(home.open(), Err(ElementError::Unavailable(_))));
    home.swtpm.restart();
    assert!(sealed.equals(element.derive(Root::Device, Label::Seal, &[]).unwrap().expose()));
    assert_holds(&mut element, relationship(1), [1; 32]);
    assert_eq!(element.value(), Ok(value));
}
