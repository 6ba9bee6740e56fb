//! The ways out of a refusal, as commands of these programs.

use akm_element::WrapError;
use akm_provision::ceremony;
use akm_provision::error::ceremony::{AtElement, Device, Done, Taken, Unfit};
use akm_provision::error::relationship::{Lacks, Members};
use akm_provision::error::{Error, LinkError, LockError, StoreError, Unfinished, VaultError, module};
use akm_provision::relationship;
use akm_provision::view::NodeStatus;
use akm_target::TargetError;

/// The ways out of a refusal, the likeliest first. None where its text says it all.
pub(crate) fn hints(error: &Error) -> Vec<String> {
    match error {
        Error::Module(refusal) => of_module(refusal),
        Error::Ceremony(refusal) => of_ceremony(refusal),
        Error::Relationship(refusal) => of_relationship(refusal),
        Error::Unfinished(unfinished) => of_unfinished(unfinished),
        Error::Link(error) => of_link(error),
        Error::Target(error) => of_target(error),
        Error::Store(StoreError::NoModule { .. }) | Error::Vault(VaultError::Missing { .. }) => {
            one("akm init makes one; --home or AKM_HOME names another place")
        }
        Error::Lock(LockError::Held { .. }) => one("try again when it is done"),
        Error::Stack(_) => one("--stack must be an akmd program"),
        Error::Wrap(WrapError::KeysNeeded { .. } | WrapError::OtherKeyVersion { .. }) => {
            one("--card-keys names the file that holds them")
        }
        Error::Store(_)
        | Error::Lock(_)
        | Error::Vault(_)
        | Error::Wrap(_)
        | Error::Element(_)
        | Error::Disk(_)
        | Error::Serve(_) => Vec::new(),
    }
}

fn one(hint: impl Into<String>) -> Vec<String> {
    vec![hint.into()]
}

fn of_module(refusal: &module::Refusal) -> Vec<String> {
    use module::Refusal;
    match refusal {
        Refusal::StoreGone { .. } => vec![
            "put it back from a backup".to_owned(),
            "only if akm init was cut off here, run it again".to_owned(),
        ],
        Refusal::VaultGone { .. } => one("restore vault.key, vault.json or vault.element from your backup"),
        Refusal::Exists { .. } => Vec::new(),
    }
}

fn of_ceremony(refusal: &ceremony::Refusal) -> Vec<String> {
    use ceremony::Refusal;
    let resume = |name: &dyn std::fmt::Display| format!("akm provision --resume {name} goes on with it");
    let give_up = |name: &dyn std::fmt::Display| format!("akm node remove {name} gives it up");
    match refusal {
        Refusal::Unknown { .. } => one("akm node list shows all"),
        Refusal::NotActive { name, status: NodeStatus::Removing } => {
            one(format!("finish that first: akm node remove {name}"))
        }
        Refusal::NotActive { name, .. } => {
            one(format!("finish its ceremony first: akm provision --resume {name}"))
        }
        Refusal::Taken(taken) => match taken {
            Taken::ByModule { .. } | Taken::ByNode { .. } => one("choose another with --name"),
            Taken::ByCeremony { name, .. } => vec![resume(name), give_up(name)],
            Taken::ByRemoval { name } => one(format!("finish that first: akm node remove {name}")),
            Taken::Target { name } => {
                vec!["use --again to make it a new node".to_owned(), format!("akm verify {name}")]
            }
            Taken::TargetOf { name, .. } => one(format!("remove that first: akm node remove {name}")),
            Taken::Elsewhere { name, .. } => vec![resume(name), "or choose another name".to_owned()],
            Taken::Sent { name, .. } => {
                vec!["go on there: akm provision TARGET --resume".to_owned(), give_up(name)]
            }
            Taken::Device { .. } => Vec::new(),
            Taken::Element { name, .. } => {
                one(format!("to take another, give it up first: akm node remove {name}"))
            }
            Taken::ElementOfDevice { name, .. } => {
                one(format!("to take another, remove the node first: akm node remove {name}"))
            }
            Taken::ElementKind { .. } => Vec::new(),
        },
        Refusal::Unfit(unfit) => match unfit {
            Unfit::Port => one("--listen takes an address and a port, as in 192.0.2.7:47100"),
            Unfit::Host { .. } => {
                one("--endpoint names another place: a host and a port, as in device.example:47100")
            }
            Unfit::Ports { .. } => one("write it like 30000-30099"),
            Unfit::Endpoint { .. } => one("give this one another port with --listen"),
            Unfit::NoCard { .. } => one("leave out --card-keys"),
            Unfit::NothingToPlugIn => one("provision the target itself"),
            Unfit::NotFilled { name } => {
                one(format!("plug it in here and run akm provision --resume {name}"))
            }
            Unfit::HasTarget { name, .. } => {
                one(format!("go on with it there: akm provision --resume {name}"))
            }
            Unfit::Name(_) => one("use --name"),
            Unfit::SeveralCutOff { .. } => one("name one of them"),
            Unfit::BeingMadeAnew { name } => vec![
                format!("finish that first: akm provision --resume {name}"),
                "give up both with --force".to_owned(),
            ],
            Unfit::Directory { .. } => Vec::new(),
        },
        Refusal::Done(done) => match done {
            Done::IsNode { name } => {
                vec!["use --again to make it a new node".to_owned(), format!("akm verify {name}")]
            }
            Done::IsOurs { .. } => one("use --again to make it a new node"),
            Done::Over { .. } | Done::NothingCutOff | Done::NoNodes => Vec::new(),
        },
        Refusal::Element(element) => match element {
            AtElement::ForeignRoot { .. } => one("if it may go, run akmd reset --force at the device"),
            AtElement::OfNode { .. } => vec![
                "use that target if it is the same device".to_owned(),
                "else reset this one, or plug in another element".to_owned(),
            ],
            AtElement::OfVault { .. } => one("take another one for a node"),
            AtElement::NotTheFilled { .. } => one("put that into the target"),
            AtElement::Card { .. } => {
                one("if it has other keys than the module: --card-keys names the file that holds them")
            }
            AtElement::Refused { .. }
            | AtElement::NotErased { .. }
            | AtElement::Receipt
            | AtElement::NoCardKeys { .. } => Vec::new(),
        },
        Refusal::Device(device) => of_device(device),
        Refusal::Altered { .. } => vec![
            "somebody changed its program, configuration or unit: look at the device".to_owned(),
            "then provision it again".to_owned(),
        ],
        Refusal::Waits { name } => {
            one(format!("put that into the target, then run akm provision TARGET --resume {name}"))
        }
        Refusal::MadeAnew { name } => one(format!("look at it first: akm node show {name}")),
        Refusal::Differs { .. } => Vec::new(),
    }
}

fn of_unfinished(unfinished: &Unfinished) -> Vec<String> {
    match unfinished {
        Unfinished::CutOff { name, source } => {
            let mut hints = hints(source);
            hints.push(format!("when that is mended: akm provision --resume {name}"));
            hints
        }
        Unfinished::MayHold { source, .. } => {
            let mut hints = hints(source);
            hints.push("try again when it can be reached, or forget it with --force".to_owned());
            hints
        }
        Unfinished::Parked { generation, away, .. } => {
            let mut ways: Vec<String> = Vec::new();
            for hint in away.iter().flat_map(|away| hints(&away.why)) {
                if !ways.contains(&hint) {
                    ways.push(hint);
                }
            }
            ways.push("the same command again goes on".to_owned());
            if *generation > 1 {
                ways.push("--without-absent begins without those that are away".to_owned());
                ways.push("akm tasks shows what is parked".to_owned());
            }
            ways
        }
        Unfinished::BeginsLater { .. } => Vec::new(),
    }
}

fn of_device(device: &Device) -> Vec<String> {
    match device {
        Device::AnotherModule { .. } => vec![
            "have it removed there".to_owned(),
            "or, at the device itself, run akmd stop and akmd reset --force".to_owned(),
        ],
        Device::Killed { dir, .. } => one(format!("if that happens each time, remove {dir}/current there")),
        Device::IsMember { .. } => one("use --force to remove it all the same"),
        Device::SecretsGone { name } => one(format!("give it up and begin anew: akm node remove {name}")),
        Device::OtherVersion { .. } => one("take akm and akmd (--stack) of one version"),
        Device::NoStack { .. } => one("build it (cargo build --bins) or name one with --stack"),
        Device::NotInStore { .. } | Device::Target(_) | Device::ElementSpec(_) => {
            one("restore the module from a backup")
        }
        Device::Stack { .. }
        | Device::Unreadable { .. }
        | Device::StillThere { .. }
        | Device::NothingThere { .. }
        | Device::NotArrived
        | Device::System { .. }
        | Device::Refused { .. } => Vec::new(),
    }
}

fn of_relationship(refusal: &relationship::Refusal) -> Vec<String> {
    use relationship::Refusal;
    match refusal {
        Refusal::Unknown { .. } => one("akm asr list shows all"),
        Refusal::Exists { name } => one(format!("akm asr show {name}")),
        Refusal::Another { name, parked: true, .. } => vec![
            "repeat the command that made it, or choose another name".to_owned(),
            format!("akm asr show {name}"),
        ],
        Refusal::Another { name, members, .. } => {
            let change = if *members {
                format!("akm asr add {name} and akm asr remove {name} change its members")
            } else {
                format!("akm asr policy {name} changes its policy")
            };
            vec![change, format!("akm asr show {name}")]
        }
        Refusal::MemberGone { asr, member } => {
            one(format!("take it out first: akm asr remove {asr} {member}"))
        }
        Refusal::Members(members) => match members {
            Members::TooFew { left: Some(name) } => one(format!("to end it use akm asr delete {name}")),
            Members::None { asr, .. } => one(format!("akm asr show {asr}")),
            _ => Vec::new(),
        },
        Refusal::Lacks(Lacks::Secrets { name }) => {
            one(format!("make a new generation: akm asr renew {name}"))
        }
        Refusal::Lacks(Lacks::Element { name }) => one(format!("verify it first: akm verify {name}")),
        Refusal::Lacks(Lacks::InStore { .. }) => one("restore the module from a backup"),
        Refusal::Lacks(_) | Refusal::AsItIs { .. } | Refusal::NotHeld { .. } | Refusal::NotInForce { .. } => {
            Vec::new()
        }
    }
}

fn of_link(error: &LinkError) -> Vec<String> {
    match error {
        LinkError::Unreachable { dir, .. } => {
            one(format!("is the device on and its stack running? (on the device: akmd status --dir {dir})"))
        }
        LinkError::Silent { .. } => {
            one("where it is the node, akmd status on the device says what it could not record, or has lost")
        }
        LinkError::NoCredentials { .. } => one("provision the device again: akm provision TARGET --again"),
        LinkError::Refused { .. } | LinkError::Lock(_) | LinkError::Store(_) | LinkError::Session(_) => {
            Vec::new()
        }
    }
}

fn of_target(error: &TargetError) -> Vec<String> {
    match error {
        TargetError::Unreachable { hint, .. } => one(hint.clone()),
        TargetError::NotRoot { user, .. } => {
            one(format!("give user {user} passwordless sudo on the target or use root"))
        }
        TargetError::Missing { .. } => one("install what is missing and try again"),
        TargetError::WrongArchitecture { .. } => one("give a matching one with --stack"),
        TargetError::Occupied { .. } => one("choose an empty or a new directory"),
        TargetError::Owned { dir, .. } => one(format!(
            "choose another directory, or give it to whom the stack runs as (chown -R USER {dir})"
        )),
        TargetError::Damaged { .. } => one("nothing of it was used: install again"),
        TargetError::Unwritable { .. } | TargetError::Absent { .. } | TargetError::Failed { .. } => {
            Vec::new()
        }
    }
}
