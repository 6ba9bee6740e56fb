//! The main job over `ssh://`, against a real OpenSSH server on loopback.

mod support;

use std::fs;
use std::path::Path;

use akm_counterparts::ports;
use support::plant::{Done, Plant, run, wait_until};
use support::sshd::Sshd;
use support::untouched::{refused, says_what_and_what_to_do};

/// The node's program is supervised by nobody, whether this machine has systemd or not: at the other end
/// only these programs are found.
const TOOLS: [&str; 24] = [
    "cat",
    "chmod",
    "cmp",
    "df",
    "find",
    "head",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "printf",
    "ps",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "sh",
    "sha256sum",
    "sleep",
    "sync",
    "tar",
    "uname",
];

/// A module, and a host that ssh reaches; each directory on it is a target of its own.
struct Site {
    plant: Plant,
    sshd: Sshd,
}

impl Site {
    fn new() -> Self {
        let plant = Plant::new();
        let bin = plant.place().join("bin");
        fs::create_dir(&bin).unwrap();
        for tool in TOOLS {
            let found = ["/usr/bin", "/bin"]
                .map(|dir| Path::new(dir).join(tool))
                .into_iter()
                .find(|path| path.exists());
            if let Some(found) = found {
                std::os::unix::fs::symlink(found, bin.join(tool)).unwrap();
            }
        }
        let sudo = bin.join("sudo");
        fs::write(&sudo, "#!/bin/sh\n[ \"$1\" = -n ] || exit 1\nshift\nexec \"$@\"\n").unwrap();
        fs::set_permissions(&sudo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let only =
            format!("ForceCommand PATH={}; export PATH; eval \"$SSH_ORIGINAL_COMMAND\"", bin.display());
        let sshd = Sshd::start_with(&only);
        Self { plant, sshd }
    }

    fn target(&self, name: &str) -> String {
        self.sshd.url(&self.plant.dir(name).to_string_lossy())
    }

    fn config(&self) -> String {
        self.sshd.config().to_string_lossy().into_owned()
    }

    fn provision(&self, name: &str, more: &[&str]) -> Done {
        let (target, config) = (self.target(name), self.config());
        self.plant.akm(&[&["provision", &target, "--name", name, "--ssh-config", &config], more].concat())
    }

    /// Replaces `tar` at the other end; an empty body puts the real one back.
    fn set_tar(&self, body: &str) {
        let tar = self.plant.place().join("bin/tar");
        let real = fs::canonicalize("/bin/tar").unwrap();
        fs::remove_file(&tar).unwrap();
        if body.is_empty() {
            std::os::unix::fs::symlink(real, &tar).unwrap();
        } else {
            fs::write(&tar, format!("#!/bin/sh\nreal={}\n{body}\n", real.display())).unwrap();
            fs::set_permissions(&tar, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
}

/// An address on loopback that nobody has.
fn free_address() -> String {
    format!("127.0.0.1:{}", ports::port())
}

#[test]
fn two_hosts_become_nodes_talk_become_new_nodes_and_leave() {
    let site = Site::new();
    let plant = &site.plant;
    // One listens where it is told, the other everywhere: then ssh says where it is reached.
    let everywhere = free_address().replace("127.0.0.1", "0.0.0.0");
    let first = site.provision("a", &["--listen", &free_address()]).expect(0);
    for step in ["step 1 create", "step 2 save", "step 3 install", "step 4 store", "step 5 verify"] {
        assert!(first.stdout.contains(step), "{}", first.stdout);
    }
    let second = site.provision("b", &["--listen", &everywhere, "--json"]).expect(0).json();
    assert_eq!(second["steps"].as_array().unwrap().len(), 5);
    assert_eq!(second["node"]["endpoint"], everywhere.replace("0.0.0.0", "127.0.0.1"));
    plant.akm(&["verify", "--all"]).expect(0);
    site.provision("a", &[]).expect(3);

    plant.akm(&["asr", "create", "line", "a", "b"]).expect(0);
    for (from, to) in [("a", "b"), ("b", "a")] {
        let listener = plant.listen(to, "line", 1);
        plant.send(from, "line", "over the hills");
        assert_eq!(listener.texts(), ["over the hills"]);
    }

    // The configuration for ssh is remembered, and the address is kept.
    let before = plant.node("a");
    let target = site.target("a");
    plant.akm(&["provision", &target, "--again", "--ssh-config", &site.config()]).expect(0);
    let after = plant.node("a");
    assert_ne!(before["akm_id"], after["akm_id"]);
    assert_eq!(before["endpoint"], after["endpoint"]);
    plant.akm(&["verify", "--all"]).expect(0);

    plant.akm(&["node", "remove", "a"]).expect(0);
    let done = plant.akm(&["node", "remove", "b"]).expect(1);
    says_what_and_what_to_do(&done, &["member of line", "--force"]);
    plant.akm(&["node", "remove", "b", "--force"]).expect(0);
    assert!(!plant.dir("a").exists() && !plant.dir("b").exists());
    assert_eq!(plant.nodes().as_array().unwrap().len(), 1);
}

#[test]
fn a_ceremony_that_lost_its_host_goes_on_when_the_host_is_back() {
    let mut site = Site::new();
    let listen = free_address();

    // The host dies in the middle of the upload.
    site.set_tar("head -c 100000 | \"$real\" \"$@\"; kill -9 $PPID");
    let done = site.provision("a", &["--listen", &listen]).expect(7);
    says_what_and_what_to_do(&done, &["cannot reach", "--resume a"]);
    assert_eq!(site.plant.node("a")["status"], "provisioning");
    let relationship = site.plant.node("a")["provisioning_relationship_id"].clone();
    assert!(!site.plant.dir("a").join("current").exists());

    // It stays away, and comes back.
    site.sshd.stop();
    let done = site.plant.akm(&["provision", "--resume", "a"]).expect(7);
    says_what_and_what_to_do(&done, &["Connection refused", "--resume a"]);
    let done = site.plant.akm(&["node", "remove", "a"]).expect(7);
    says_what_and_what_to_do(&done, &["--force"]);
    site.sshd.start_again();
    site.set_tar("");
    site.plant.akm(&["provision", "--resume"]).expect(0);
    site.plant.akm(&["verify", "a"]).expect(0);
    assert_eq!(site.plant.node("a")["provisioning_relationship_id"], relationship);
    let left: Vec<_> = fs::read_dir(site.plant.dir("a").join("releases")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing is left of the first try");
}

#[test]
fn a_host_that_is_not_known_or_not_ours_changes_nothing() {
    let site = Site::new();
    let target = site.target("a");
    for (config, says) in [
        (site.sshd.config_of_a_stranger(), &["host key is unknown here", "compare the fingerprint"][..]),
        (site.sshd.config_with_other_host_key(), &["another key than before"]),
        (site.sshd.config_with_wrong_key(), &["does not accept your key", "authorized_keys"]),
    ] {
        let config = config.to_string_lossy().into_owned();
        let mut command = site.plant.akm_command(&["provision", &target, "--ssh-config", &config]);
        refused(&site.plant, &mut command, 7, says);
    }
    let mut command = site.plant.akm_command(&["provision", &target, "--ssh-config", &site.config()]);
    let foreign = site.plant.dir("a");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter"), "dear").unwrap();
    refused(&site.plant, &mut command, 1, &["not ours"]);
}

#[test]
fn a_node_that_cannot_be_reached_is_removed_by_force_alone_and_comes_back_by_again() {
    let mut site = Site::new();
    let listen = free_address();
    site.provision("a", &["--listen", &listen]).expect(0);
    let first = site.plant.node("a");

    // Host and stack are away.
    site.sshd.stop();
    site.plant.kill("a");
    let done = site.plant.akm(&["node", "remove", "a"]).expect(7);
    says_what_and_what_to_do(&done, &["still hold", "--force"]);
    let done = site.plant.akm(&["node", "remove", "a", "--force", "--json"]).expect(0).json();
    assert_eq!(done["erased"], false);
    assert_eq!(site.plant.nodes().as_array().unwrap().len(), 1);

    // The device is back, and still holds what it held.
    site.sshd.start_again();
    let done = site.provision("a", &["--listen", &listen]).expect(3);
    says_what_and_what_to_do(&done, &["--again"]);
    site.provision("a", &["--listen", &listen, "--again"]).expect(0);
    assert_ne!(site.plant.node("a")["akm_id"], first["akm_id"]);
    site.plant.akm(&["verify", "a"]).expect(0);

    // Only ssh is away: the node erases itself, over the network.
    site.sshd.stop();
    let done = site.plant.akm(&["node", "remove", "a", "--json"]).expect(0).json();
    assert_eq!(done["erased"], true);
    wait_until("the stack has ended", || site.plant.akmd("a", &["status"]).code == Some(7));
    let state = site.plant.dir("a").join("state");
    assert!(!state.join("identity").exists());
    wait_until("its relationships are erased", || {
        fs::read_dir(state.join("nodes")).map_or(0, Iterator::count) == 0
    });
    site.sshd.start_again();
    site.provision("a", &["--listen", &listen]).expect(0);
    let mut verify = site.plant.akm_command(&["verify", "a"]);
    run(&mut verify).expect(0);
}
