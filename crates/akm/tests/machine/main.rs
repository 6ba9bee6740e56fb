//! A whole machine as a target: over ssh, under systemd, with a TPM of its own that keeps what it is given.
//!
//! Not among the tests that run together: it takes minutes, most of them for starts of the machine. `make test-machine`.

mod machine;
#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use akm_counterparts::ports;
use machine::Machine;
use serde_json::Value;
use support::plant::{Done, Plant, wait_until};
use support::untouched::says_what_and_what_to_do;

const ELEMENT: &str = "tpm:device:/dev/tpmrm0";

/// The unit that keeps the stack running, where the URL names no directory.
const UNIT: &str = "akmd.service";

/// A module here, and a machine. The machine is the node `valve`, and `pump` a node of this computer.
struct Site {
    plant: Plant,
    machine: Machine,
}

impl Site {
    fn new() -> Self {
        Self { plant: Plant::new(), machine: Machine::new() }
    }

    /// The arguments that make the machine a node.
    fn provision(&self) -> Vec<String> {
        let machine = &self.machine;
        let (target, config, endpoint) = (machine.target(), machine.ssh_config(), machine.endpoint());
        ["provision", &target, "--name", "valve", "--element", ELEMENT]
            .into_iter()
            .chain(["--ssh-config", &config, "--endpoint", &endpoint])
            .map(str::to_owned)
            .collect()
    }

    /// What the TPM holds for longer than a command: counters, keys, and what should not be there.
    fn held_by_the_tpm(&self) -> Value {
        let kinds = ["nv-index", "persistent", "transient", "loaded-session", "saved-session"];
        let count = |kind: &str| {
            let done = self.machine.shell(&format!("tpm2_getcap handles-{kind}")).expect(0);
            done.stdout.lines().filter(|line| line.trim_start().starts_with("- 0x")).count()
        };
        kinds
            .into_iter()
            .map(|kind| (kind.to_owned(), count(kind).into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// Another program of the machine listens where the stack does.
    fn take_the_port(&self) {
        let other =
            "systemd-run --unit other systemd-socket-activate --datagram --listen 0.0.0.0:17100 /bin/cat";
        self.machine.shell(other).expect(0);
        wait_until("the port is taken", || self.machine.shell("ss -lnu | grep -q :17100").code == Some(0));
    }

    fn let_go_of_the_port(&self) {
        self.machine.shell("systemctl stop other").expect(0);
    }

    fn akm(&self, arguments: &[&str]) -> Done {
        self.plant.akm(arguments)
    }

    fn status(&self) -> Value {
        self.machine.akmd("status --json").expect(0).json()
    }

    /// The epoch of the ASR at the machine.
    fn epoch(&self) -> u64 {
        let status = self.status();
        let all = status["relationships"].as_array().expect("a list");
        let line = all.iter().find(|entry| entry["name"] == "line").expect("the ASR");
        line["epoch"].as_u64().expect("it has an epoch")
    }

    /// The machine is the node that it was, by itself.
    fn is_the_node(&self, akm_id: &Value) {
        wait_until("the node is there", || self.akm(&["verify", "valve"]).code == Some(0));
        assert_eq!(&self.status()["akm_id"], akm_id);
        self.machine.shell(&format!("systemctl is-active {UNIT}")).expect(0);
    }

    /// Each of the two hears all that the other says, in its order. `pump` speaks first: the machine sees it
    /// at another address than the module does, and learns that from its frames.
    fn nothing_is_lost(&self, when: &str) {
        let said = |who: &str| (1..=20).map(|number| format!("{who} {number} {when}")).collect::<Vec<_>>();
        let listener = self.machine.listen("line", 20);
        for text in said("pump") {
            self.plant.send("pump", "line", &text);
        }
        assert_eq!(listener.texts(), said("pump"));
        let listener = self.plant.listen("pump", "line", 20);
        let say = format!(
            "for number in $(seq 20); do /opt/akm/current/akmd send line \"valve $number {when}\" || exit; done"
        );
        self.machine.shell(&say).expect(0);
        assert_eq!(listener.texts(), said("valve"));
    }

    /// Starts the ceremony, or goes on with it, and kills the TPM at this many commands of it into step 4.
    fn kill_the_tpm_in_step_4(&mut self, arguments: &[&str], commands: usize) -> Done {
        let mut ceremony = self
            .plant
            .akm_command(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("akm can be started");
        let mut lines = BufReader::new(ceremony.stdout.take().expect("a pipe")).lines();
        let installed = lines.any(|line| line.is_ok_and(|line| line.starts_with("step 3")));
        assert!(installed, "step 3 was not done: {:?}", ceremony.wait_with_output());
        let before = self.machine.tpm_commands();
        let begin = Instant::now();
        while self.machine.tpm_commands() < before + commands {
            let ended = ceremony.try_wait().expect("its state can be asked").is_some();
            assert!(
                !ended && begin.elapsed() < Duration::from_secs(120),
                "step 4 gives the TPM no such command"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        self.machine.kill_tpm();
        let further: Vec<String> = lines.map_while(Result::ok).collect();
        let mut done = Done::of(ceremony.wait_with_output().expect("akm can be waited for"));
        done.stdout = further.join("\n");
        done
    }
}

#[test]
fn a_machine_under_systemd_is_a_node_and_comes_back_by_itself() {
    let mut site = Site::new();
    let arguments = site.provision();
    // While somebody has its port the ceremony is told so, and goes on when it is free.
    site.take_the_port();
    let done = site.akm(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).expect(6);
    says_what_and_what_to_do(&done, &["cannot listen on 0.0.0.0:17100", "--resume valve"]);
    site.let_go_of_the_port();
    let done = site.akm(&["provision", "--resume", "valve"]).expect(0);
    assert!(!done.stderr.contains("nobody restarts the stack"), "{}", done.stderr);
    site.machine.shell(&format!("systemctl is-enabled {UNIT}")).expect(0);
    let akm_id = site.plant.node("valve")["akm_id"].clone();
    site.is_the_node(&akm_id);
    site.akm(&["provision", &site.machine.target()]).expect(3);

    let anywhere = format!("0.0.0.0:{}", ports::port());
    let pump = site.plant.target("pump");
    site.akm(&["provision", &pump, "--name", "pump", "--listen", &anywhere]).expect(0);
    site.akm(&["asr", "create", "line", "valve", "pump"]).expect(0);
    site.nothing_is_lost("at first");

    // Whatever ends the stack: systemd, its machine, or nobody who says so.
    let mut epoch = site.epoch();
    for (end, when) in [
        (
            (|machine| drop(machine.shell("systemctl kill -s KILL akmd").expect(0))) as fn(&mut Machine),
            "after a kill",
        ),
        (Machine::reboot, "after a reboot"),
        (Machine::reset, "after a reset"),
    ] {
        end(&mut site.machine);
        site.is_the_node(&akm_id);
        site.nothing_is_lost(when);
        let later = site.epoch();
        assert!(later > epoch, "{when} no key is used again: epoch {epoch}, then {later}");
        epoch = later;
    }

    // A stack that ends while somebody has its port waits until it is free; who asks for it does not.
    site.machine.shell(&format!("systemctl stop {UNIT}")).expect(0);
    site.take_the_port();
    site.machine.shell(&format!("! systemctl start {UNIT}")).expect(0);
    wait_until("systemd knows what it waits for", || {
        let done = site.machine.shell(&format!("systemctl show -p ActiveState -p StatusText {UNIT}"));
        done.stdout.contains("ActiveState=activating")
            && done.stdout.contains("cannot listen on 0.0.0.0:17100")
    });
    let said = site.machine.akmd("status").expect(7).stderr;
    assert!(said.contains("the stack waits with its start") && said.contains("cannot listen"), "{said}");
    site.let_go_of_the_port();
    site.is_the_node(&akm_id);

    site.akm(&["node", "remove", "valve", "--force"]).expect(0);
    site.machine.shell("test ! -e /opt/akm && ! systemctl cat akmd.service").expect(0);
}

#[test]
fn a_tpm_that_is_lost_in_step_4_is_mended_by_a_resume_and_its_node_is_bound_to_it() {
    let mut site = Site::new();
    let held = site.held_by_the_tpm();
    assert_eq!((&held["nv-index"], &held["persistent"]), (&0.into(), &0.into()), "it is fresh");
    let provision = site.provision();
    let first: Vec<&str> = provision.iter().map(String::as_str).collect();
    let resume = ["provision", "--resume", "valve"];

    // While it makes what it needs, and while it takes the root.
    for (arguments, commands) in [(&first[..], 14), (&resume, 40)] {
        let done = site.kill_the_tpm_in_step_4(arguments, commands).expect(4);
        println!("killed at command {commands} of step 4: {}", done.stderr.trim_end());
        says_what_and_what_to_do(
            &done,
            &["the element is not available", "the machine off and on", "--resume valve"],
        );
        assert_eq!(site.plant.node("valve")["status"], "provisioning");
        site.machine.switch_off();
        site.machine.switch_on();
    }
    site.akm(&resume).expect(0);
    let akm_id = site.plant.node("valve")["akm_id"].clone();
    site.is_the_node(&akm_id);
    assert_eq!(site.plant.nodes().as_array().unwrap().len(), 2, "the root and one node");
    let held = site.held_by_the_tpm();
    assert_eq!(
        (&held["nv-index"], &held["persistent"]),
        (&1.into(), &1.into()),
        "one counter, one key: {held}"
    );

    // The disk in a machine with another TPM is no node.
    site.machine.switch_off();
    let own = site.machine.exchange_tpm();
    site.machine.switch_on();
    wait_until("the stack has tried to start", || {
        site.machine.shell(&format!("journalctl -q -b -o cat -u {UNIT}")).stdout.contains("akmd: ")
    });
    site.akm(&["verify", "valve"]).expect(7);
    site.machine.akmd("status").expect(7);
    site.machine.switch_off();
    site.machine.put_back_tpm(&own);
    site.machine.switch_on();
    site.is_the_node(&akm_id);

    // The storage key holds nothing, and another node may use it.
    site.akm(&["node", "remove", "valve"]).expect(0);
    assert_eq!(site.held_by_the_tpm()["nv-index"], 0, "its counter is gone");
}
