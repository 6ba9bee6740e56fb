//! Several stacks in network namespaces, with links that really go down. Needs root and `ip` (package iproute2).

mod support {
    pub(crate) mod plant;
}

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use support::plant::{Plant, akmd_program, run, wait_until};

/// How many networks there are to choose from.
const NETWORKS: u32 = 200;

/// Namespaces with one link each to a bridge on which the module is too. All of it goes when this is dropped.
struct Land {
    /// Of the network, and part of all names. Who made the bridge has it to himself on this machine.
    number: u32,
    count: u8,
}

impl Land {
    fn new(count: u8) -> Self {
        let make = |number| {
            let bridge = format!("akmb{number}");
            let done = Command::new("ip").args(["link", "add", &bridge, "type", "bridge"]).output();
            let done = done.expect("ip is missing: apt-get install iproute2");
            let told = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success() || told.contains("File exists"), "{bridge}: {told}");
            done.status.success()
        };
        let number =
            (0..NETWORKS).map(|offset| (std::process::id() + offset) % NETWORKS).find(|at| make(*at));
        let land = Self { number: number.expect("a network that nobody has"), count };
        land.ip(&["addr", "add", &format!("{}/24", land.address(254)), "dev", &land.bridge()]);
        land.ip(&["link", "set", &land.bridge(), "up"]);
        for at in 1..=count {
            let (name, outside, inside) = (land.namespace(at), land.link(at), format!("akmi{at}"));
            land.ip(&["netns", "add", &name]);
            land.ip(&["link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", &name]);
            land.ip(&["link", "set", &outside, "master", &land.bridge(), "up"]);
            for command in [
                &["addr", "add", &format!("{}/24", land.address(at)), "dev", &inside][..],
                &["link", "set", &inside, "up"],
                &["link", "set", "lo", "up"],
            ] {
                land.ip(&[&["-n", &name], command].concat());
            }
        }
        land
    }

    fn bridge(&self) -> String {
        format!("akmb{}", self.number)
    }

    fn namespace(&self, at: u8) -> String {
        format!("akm-{}-{at}", self.number)
    }

    fn link(&self, at: u8) -> String {
        format!("akm{}-{at}", self.number)
    }

    fn address(&self, at: u8) -> String {
        format!("10.213.{}.{at}", self.number)
    }

    #[track_caller]
    fn ip(&self, arguments: &[&str]) {
        let done = Command::new("ip").args(arguments).output();
        let done = done.expect("ip is missing: apt-get install iproute2");
        assert!(done.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn set(&self, at: u8, state: &str) {
        self.ip(&["link", "set", &self.link(at), state]);
    }

    /// A stack that runs in a namespace.
    fn stack(&self, plant: &Plant, at: u8) -> String {
        let place = plant.place().join(format!("stack{at}"));
        std::fs::create_dir_all(&place).unwrap();
        let path = place.join("akmd");
        let script = format!(
            "#!/bin/sh\nexec ip netns exec {} '{}' \"$@\"\n",
            self.namespace(at),
            akmd_program().display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Land {
    fn drop(&mut self) {
        for at in 1..=self.count {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(at)]).output();
            let _ = Command::new("ip").args(["link", "del", &self.link(at)]).output();
        }
        let _ = Command::new("ip").args(["link", "del", &self.bridge()]).output();
    }
}

/// A module, and nodes of these names that each run in a namespace, with an ASR between all of them.
fn plant(land: &Land, names: &[&str]) -> Plant {
    let plant = Plant::bare();
    plant.akm(&["init", "--name", "plant"]).expect(0);
    for (at, name) in (1..).zip(names) {
        let listen = format!("{}:47100", land.address(at));
        let (target, stack) = (plant.target(name), land.stack(&plant, at));
        plant.akm(&["provision", &target, "--name", name, "--stack", &stack, "--listen", &listen]).expect(0);
    }
    plant.akm(&[&["asr", "create", "line"], names].concat()).expect(0);
    plant
}

#[track_caller]
fn talk(plant: &Plant, one: &str, other: &str) {
    for (from, to) in [(one, other), (other, one)] {
        let listener = plant.listen(to, "line", 1);
        plant.send(from, "line", "hello");
        assert_eq!(listener.texts(), ["hello"], "from {from} to {to}");
    }
}

fn generation(plant: &Plant, node: &str) -> u64 {
    plant.relationship(node, "line")["generation"].as_u64().expect("a number")
}

#[test]
fn a_group_goes_through_partitions_changes_and_lost_disks_and_finds_back_together() {
    let land = Land::new(3);
    let names = ["a", "b", "c"];
    let plant = plant(&land, &names);
    talk(&plant, "a", "b");
    talk(&plant, "a", "c");

    // c is cut off. The others go on, also into other epochs, and the change waits for it.
    land.set(3, "down");
    talk(&plant, "a", "b");
    let found = plant.akm(&["diagnose", "a", "c", "--json"]).expect(7).json();
    assert_eq!(found["causes"][0]["cause"], "unreachable", "{found:#}");
    plant.akm(&["asr", "renew", "line"]).expect(6);
    assert_eq!(generation(&plant, "a"), 1);
    for _ in 0..3 {
        plant.akmd("a", &["rotate", "line"]).expect(0);
        plant.send("a", "line", "on");
    }
    // It is back: it hears the others at once, and gets the change with the next command that reaches it.
    land.set(3, "up");
    wait_until("c is reached", || plant.akm(&["verify", "c"]).code == Some(0));
    wait_until("the change has gone on", || {
        plant.akm(&["verify", "--all"]).expect(0);
        names.iter().all(|name| generation(&plant, name) == 2)
    });
    talk(&plant, "a", "c");
    talk(&plant, "b", "c");

    // All disks lose their places while the nodes cannot hear each other: nobody makes anything up alone.
    for (at, name) in (1..).zip(names) {
        plant.akmd(name, &["stop"]).expect(0);
        let state = plant.dir(name).join("state/nodes");
        let script = format!("find '{}' -name g2.place -delete", state.display());
        run(Command::new("sh").args(["-c", &script])).expect(0);
        land.set(at, "down");
    }
    for name in names {
        plant.start(name);
    }
    for name in names {
        assert_ne!(plant.relationship(name, "line")["phase"], "Established", "{name}");
    }
    for at in 1..=3 {
        land.set(at, "up");
    }
    wait_until("all are in one run", || {
        let lines = names.map(|name| plant.relationship(name, "line"));
        let run = lines[0]["run"].as_u64().expect("a number");
        run >> 16 == 1 && lines.iter().all(|line| line["run"] == run && line["phase"] == "Established")
    });
    talk(&plant, "a", "b");
    talk(&plant, "b", "c");
    // The module hears of it, and renews.
    let done = plant.akm(&["verify", "--all"]).expect(0);
    assert!(done.stderr.contains("ASR line is renewed"), "{done:?}");
    assert!(names.iter().all(|name| generation(&plant, name) == 3));
    talk(&plant, "a", "c");
}

/// What one node sends to another goes to nobody on the way; the module reaches both, and so do others.
#[test]
fn where_only_datagrams_from_one_node_to_another_are_lost_diagnose_names_both_and_the_network() {
    let land = Land::new(2);
    let plant = plant(&land, &["a", "b"]);
    talk(&plant, "a", "b");
    // The link address of b as a has it is that of no device.
    let [from, to] = [land.namespace(1), land.address(2)];
    let neighbour =
        ["neigh", "replace", &to, "dev", "akmi1", "nud", "permanent", "lladdr", "02:00:00:00:00:99"];
    land.ip(&[&["-n", &from], &neighbour[..]].concat());
    let mut found = Value::Null;
    wait_until("the cause is named", || {
        plant.send("a", "line", "do you hear me?");
        let done = plant.akm(&["diagnose", "a", "b", "--json"]);
        found = done.json();
        done.code == Some(7)
    });
    let causes = found["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1, "{found:#}");
    assert_eq!((&causes[0]["cause"], &causes[0]["asr"]), (&"unreachable".into(), &"line".into()));
    let what = causes[0]["what"].as_str().unwrap();
    assert!(what.starts_with(&format!("a sent on ASR line to {to}:47100")), "{what}");
    assert!(what.contains("b has heard nothing of it"), "{what}");
    let to_do = "UDP from node to node: address, routes, firewall";
    assert_eq!(causes[0]["to_do"], to_do);
    let text = plant.akm(&["diagnose", "b", "a"]).expect(7).stdout;
    assert!(
        text.starts_with("unreachable: a sent") && text.contains(&format!("  to do: {to_do}\n")),
        "{text}"
    );
    land.ip(&["-n", &from, "neigh", "del", &to, "dev", "akmi1"]);
    talk(&plant, "a", "b");
    plant.akm(&["diagnose", "a", "b"]).expect(0);
}
