//! How a command runs at a target: `sh` on this machine, or the operator's own `ssh`.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::url::SshHost;
use crate::{TargetError, TargetUrl};

/// What a target may write to one stream before the rest is thrown away: it is not trusted with our memory.
const MOST_OUTPUT: usize = 4 << 20;

const CONNECT_SECONDS: u32 = 10;

const ELEVATE: &str = include_str!("scripts/elevate.sh");

/// Runs POSIX shell scripts at one target.
///
/// At an `ssh://` target a script runs as root: at once, or through `sudo -n` for another user. At a `local:` target
/// it runs as whoever runs this program. Standard input may carry secrets, so neither it nor what comes back is ever
/// logged.
#[derive(Debug, Clone)]
pub struct Shell {
    target: String,
    way: Way,
}

/// What a command at a target left behind.
///
/// `Debug` shows no content.
#[derive(Clone, PartialEq, Eq)]
pub struct ProcessOutput {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Way {
    Local,
    Ssh { host: SshHost, config: Option<PathBuf> },
}

impl Shell {
    /// The shell at a target; `ssh_config` replaces the operator's own configuration of ssh (`ssh -F`).
    pub fn new(url: &TargetUrl, ssh_config: Option<&Path>) -> Self {
        let way = match url.host() {
            None => Way::Local,
            Some(host) => Way::Ssh { host: host.clone(), config: ssh_config.map(Path::to_owned) },
        };
        Self { target: url.to_string(), way }
    }

    /// Runs a script with positional arguments and collects what it leaves.
    ///
    /// `what` says in a few words what is being done, for errors and traces. A script that ends with another code
    /// than 0 is not an error here; not reaching the target, or not becoming root there, is. A script that ends
    /// before it has read all of `stdin` is as well judged by its code alone.
    pub fn run(
        &self,
        what: &'static str,
        script: &str,
        args: &[&str],
        stdin: &[u8],
    ) -> Result<ProcessOutput, TargetError> {
        tracing::debug!(target = %self.target, what, "running a script at the target");
        let command = self.command(script, args).map_err(|_| TargetError::Failed {
            target: self.target.clone(),
            what: what.to_owned(),
            why: "an argument holds a zero byte".to_owned(),
        })?;
        let output = self.collect(what, command, stdin)?;
        tracing::debug!(target = %self.target, what, code = output.code, "the script ended");
        self.judge(output)
    }

    /// The name or address under which the target's network endpoint is reached, with an alias of the operator's ssh
    /// configuration resolved.
    pub fn network_host(&self) -> Result<String, TargetError> {
        let Way::Ssh { host, config } = &self.way else { return Ok("127.0.0.1".to_owned()) };
        let what = "resolve the host with `ssh -G`";
        let mut command = Command::new("ssh");
        command.arg("-G").args(destination(host, config.as_deref()));
        let output = self.collect(what, command, &[])?;
        let resolved = String::from_utf8_lossy(&output.stdout)
            .lines()
            .find_map(|line| line.strip_prefix("hostname "))
            .map(|name| name.trim().to_owned());
        match resolved {
            Some(name) if output.code == Some(0) && !name.is_empty() => Ok(name),
            _ => Err(TargetError::Failed {
                target: self.target.clone(),
                what: what.to_owned(),
                why: output.last_words(),
            }),
        }
    }

    fn command(&self, script: &str, args: &[&str]) -> Result<Command, shlex::QuoteError> {
        let mut command;
        match &self.way {
            Way::Local => {
                command = Command::new("sh");
                command.args(["-c", script, "akm"]).args(args).env("LC_ALL", "C").current_dir("/");
            }
            Way::Ssh { host, config } => {
                let mut remote = String::from("exec sh");
                for word in ["-c", ELEVATE, "akm", script].iter().chain(args) {
                    remote.push(' ');
                    remote.push_str(&shlex::try_quote(word)?);
                }
                command = Command::new("ssh");
                command.args(["-T", "-a", "-x"]);
                command.args(["-o", "BatchMode=yes", "-o", &format!("ConnectTimeout={CONNECT_SECONDS}")]);
                // A link that dies in the middle is noticed within a minute.
                command.args(["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"]);
                // What an operator sets up for sitting at the host must not come between.
                command.args(["-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none"]);
                command.args(destination(host, config.as_deref())).arg(remote).env("LC_ALL", "C");
            }
        }
        Ok(command)
    }

    fn collect(&self, what: &str, mut command: Command, stdin: &[u8]) -> Result<ProcessOutput, TargetError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |error: io::Error| TargetError::Failed {
            target: self.target.clone(),
            what: what.to_owned(),
            why: format!("{program}: {error}"),
        };
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(
                |error| match error.kind() {
                    ErrorKind::NotFound => {
                        TargetError::Missing { place: "this machine".to_owned(), programs: program.clone() }
                    }
                    _ => failed(error),
                },
            )?;
        let (Some(mut input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three streams were asked for as pipes");
        };
        let (written, stdout, stderr) = std::thread::scope(|scope| {
            let writer = scope.spawn(move || match input.write_all(stdin) {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
                _ => Ok(()),
            });
            let errors = scope.spawn(|| drain(errors));
            let stdout = drain(output);
            let panicked = |_| Err(io::Error::other("a thread ended early"));
            (
                writer.join().unwrap_or_else(panicked),
                stdout,
                errors.join().unwrap_or_else(|_| Err(ErrorKind::Other.into())),
            )
        });
        let status = child.wait().map_err(failed)?;
        written.map_err(failed)?;
        Ok(ProcessOutput {
            code: status.code(),
            stdout: stdout.map_err(failed)?,
            stderr: stderr.map_err(failed)?,
        })
    }

    /// Tells what ssh and sudo did from what the script did.
    fn judge(&self, output: ProcessOutput) -> Result<ProcessOutput, TargetError> {
        let Way::Ssh { host, config } = &self.way else { return Ok(output) };
        if output.code == Some(255) {
            let by_hand = by_hand(host, config.as_deref());
            let reason = output.last_words();
            let hint = hint(&output.stderr, &by_hand);
            return Err(TargetError::Unreachable { target: self.target.clone(), reason, hint });
        }
        if let Some((kind @ ("no-sudo" | "sudo-refused"), user)) = output.complaint() {
            let why = match kind {
                "no-sudo" => "there is no sudo",
                _ => "sudo wants a password or forbids it",
            };
            return Err(TargetError::NotRoot { target: self.target.clone(), user: clean(user), why });
        }
        Ok(output)
    }
}

impl ProcessOutput {
    /// Standard error as text fit for a terminal: the last line that says something.
    pub fn last_words(&self) -> String {
        match (self.last_lines(1), self.code) {
            // Who says it is clear from what was run.
            (said, _) if !said.is_empty() => said.trim_start_matches("akmd: ").to_owned(),
            (_, Some(code)) => format!("it ended with code {code} and without a word"),
            (_, None) => "a signal ended it".to_owned(),
        }
    }

    /// The kind and the detail with which a script of ours gave up.
    pub(super) fn complaint(&self) -> Option<(&str, &str)> {
        if self.code != Some(121) {
            return None;
        }
        let stderr = std::str::from_utf8(&self.stderr).ok()?;
        stderr.lines().rev().find_map(|line| line.strip_prefix("akm-error:")?.split_once(':'))
    }

    pub(super) fn last_lines(&self, count: usize) -> String {
        let stderr = String::from_utf8_lossy(&self.stderr);
        let said =
            stderr.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("akm-error:"));
        let mut last: Vec<&str> = said.rev().take(count).collect();
        last.reverse();
        clean(&last.join("; "))
    }
}

impl fmt::Debug for ProcessOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessOutput")
            .field("code", &self.code)
            .field("stdout_length", &self.stdout.len())
            .field("stderr_length", &self.stderr.len())
            .finish()
    }
}

/// What came from a target, without control characters and not without end.
pub(super) fn clean(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect();
    plain.trim().to_owned()
}

fn drain(mut stream: impl Read) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    stream.by_ref().take(MOST_OUTPUT as u64).read_to_end(&mut kept)?;
    io::copy(&mut stream, &mut io::sink())?;
    Ok(kept)
}

fn destination(host: &SshHost, config: Option<&Path>) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    if let Some(config) = config {
        words.extend(["-F".into(), config.into()]);
    }
    if let Some(user) = host.user() {
        words.extend(["-l".into(), user.into()]);
    }
    if let Some(port) = host.port() {
        words.extend(["-p".into(), port.to_string().into()]);
    }
    words.extend(["--".into(), host.host().into()]);
    words
}

fn by_hand(host: &SshHost, config: Option<&Path>) -> String {
    let words = destination(host, config);
    let words = words.iter().map(|word| word.to_string_lossy()).filter(|word| word != "--");
    let quoted =
        words.map(|word| shlex::try_quote(&word).map_or_else(|_| word.to_string(), |word| word.to_string()));
    std::iter::once("ssh".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// What to try when ssh has said this.
fn hint(stderr: &[u8], by_hand: &str) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    // The warning of a changed host key is long; of anything else only the last words are ssh's own for certain.
    let last = |count| stderr.lines().rev().take(count).collect::<Vec<_>>().join("\n");
    let (warning, said) = (last(20), last(4));
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if warning.contains("HOST IDENTIFICATION HAS CHANGED") {
        format!(
            "the host shows another key than before; find out why before you correct known_hosts ({by_hand})"
        )
    } else if has(&["Host key verification failed", "host key is known"]) {
        format!("its host key is unknown here; run `{by_hand}` once, compare the fingerprint and accept it")
    } else if has(&["Permission denied", "Too many authentication failures"]) {
        format!(
            "it does not accept your key; see `ssh-add -l` and that user's authorized_keys, then try `{by_hand}`"
        )
    } else if has(&["Could not resolve hostname"]) {
        "the name is not known; check its spelling or use the address".to_owned()
    } else if has(&["Connection refused"]) {
        "nothing listens there; is the ssh server running, and is this its port?".to_owned()
    } else if has(&["timed out", "No route to host", "Network is unreachable", "Host is down"]) {
        "no answer; is the device switched on and on this network, and no firewall between?".to_owned()
    } else if has(&[
        "Bad owner or permissions",
        "Can't open user config file",
        "Bad configuration option",
        "terminating, ",
    ]) {
        "ssh does not accept its configuration file".to_owned()
    } else {
        format!("try `{by_hand}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(url: &str) -> Shell {
        Shell::new(&url.parse().unwrap(), Some(Path::new("/tmp/ssh config")))
    }

    fn words(command: &Command) -> Vec<String> {
        command.get_args().map(|word| word.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_local_script_gets_its_arguments_its_input_and_no_sudo() {
        let output = shell("local:/x")
            .run("try", "cat; printf '%s|' \"$@\"; echo oh >&2; exit 5", &["a b", "'\"$x", ""], b"in ")
            .unwrap();
        assert_eq!(output.stdout, b"in a b|'\"$x||");
        assert_eq!((output.code, output.last_words()), (Some(5), "oh".to_owned()));
        let command = shell("local:/x").command("s", &["a"]).unwrap();
        assert_eq!(
            (command.get_program().to_str(), words(&command)),
            (Some("sh"), ["-c", "s", "akm", "a"].map(str::to_owned).into())
        );
    }

    #[test]
    fn much_input_and_much_output_at_once_do_not_block_each_other() {
        let input = vec![b'x'; 3 << 20];
        let output = shell("local:/x").run("try", "tee /dev/stderr", &[], &input).unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (input.len(), input.len()));
    }

    #[test]
    fn a_script_that_does_not_read_its_input_is_judged_by_its_code() {
        let output = shell("local:/x").run("try", "exit 7", &[], &vec![0; 3 << 20]).unwrap();
        assert_eq!(output.code, Some(7));
    }

    #[test]
    fn endless_output_is_cut_off() {
        let output = shell("local:/x").run("try", "head -c 9000000 /dev/zero", &[], b"").unwrap();
        assert_eq!((output.code, output.stdout.len()), (Some(0), MOST_OUTPUT));
    }

    #[test]
    fn ssh_asks_nothing_and_takes_no_option_from_the_url() {
        let command = shell("ssh://pi@host:2222/opt/x").command("echo \"$1\"\n", &["it's"]).unwrap();
        assert_eq!(command.get_program(), "ssh");
        let words = words(&command);
        for option in ["BatchMode=yes", "ConnectTimeout=10", "RemoteCommand=none"] {
            let at = words.iter().position(|word| word == option).expect(option);
            assert_eq!(words[at - 1], "-o");
        }
        assert!(words.contains(&"-T".to_owned()));
        let end = &words[words.len() - 9..words.len() - 1];
        assert_eq!(end, ["-F", "/tmp/ssh config", "-l", "pi", "-p", "2222", "--", "host"]);
        let remote = shlex::split(words.last().unwrap()).unwrap();
        assert_eq!(remote, ["exec", "sh", "-c", ELEVATE, "akm", "echo \"$1\"\n", "it's"]);
    }

    #[test]
    fn without_user_and_port_the_operators_configuration_decides() {
        let command = Shell::new(&"ssh://alias".parse().unwrap(), None).command("x", &[]).unwrap();
        let words = words(&command);
        assert!(!words.iter().any(|word| ["-l", "-p", "-F"].contains(&word.as_str())));
    }

    /// Runs the elevation script where `id` and `sudo` are what the test says they are.
    fn elevate(user: &str, sudo: Option<&str>) -> (ProcessOutput, String) {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("log");
        let write = |name: &str, text: &str| {
            let path = place.path().join(name);
            std::fs::write(&path, text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, mode).unwrap();
        };
        write("id", &format!("#!/bin/sh\n[ \"$1\" = -u ] && echo {user} || echo pi\n"));
        write("sh", "#!/bin/sh\nexec /bin/sh \"$@\"\n");
        if let Some(body) = sudo {
            write("sudo", &format!("#!/bin/sh\necho \"$1 $2 $3\" >>'{}'\n{body}\n", log.display()));
        }
        let script = "printf '%s|' \"$@\"; read -r line; printf '%s' \"$line\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", ELEVATE, "akm", script, "a b", "$c"]).env("PATH", place.path());
        let output = shell("ssh://host").collect("try", command, b"typed\n").unwrap();
        (output, std::fs::read_to_string(log).unwrap_or_default())
    }

    #[test]
    fn root_needs_no_sudo() {
        let (output, log) = elevate("0", Some("exit 1"));
        assert_eq!(
            (output.code, output.stdout.as_slice(), log.as_str()),
            (Some(0), b"a b|$c|typed".as_slice(), "")
        );
    }

    #[test]
    fn another_user_goes_through_sudo_that_asks_nothing() {
        let (output, log) = elevate("1000", Some("shift; exec \"$@\""));
        assert_eq!((output.code, output.stdout.as_slice()), (Some(0), b"a b|$c|typed".as_slice()));
        assert_eq!(log, "-n sh -c\n-n sh -c\n");
    }

    #[test]
    fn sudo_that_wants_a_password_or_is_missing_is_told_plainly() {
        for sudo in [Some("echo 'sudo: a password is required' >&2; exit 1"), None] {
            let (output, _) = elevate("1000", sudo);
            let error = shell("ssh://pi@host").judge(output).unwrap_err();
            assert!(matches!(&error, TargetError::NotRoot { user, .. } if user == "pi"), "{error}");
        }
    }

    #[test]
    fn each_way_not_to_reach_a_host_has_its_hint() {
        for (said, part) in [
            ("Host key verification failed.", "unknown here"),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n1\n2\n3\n4\nHost key verification failed.",
                "another key",
            ),
            ("root@h: Permission denied (publickey).", "ssh-add"),
            ("ssh: Could not resolve hostname h: Name or service not known", "spelling"),
            ("ssh: connect to host h port 22: Connection refused", "nothing listens"),
            ("ssh: connect to host h port 22: Connection timed out", "switched on"),
            ("ssh: connect to host h port 22: No route to host", "switched on"),
            ("Can't open user config file x: No such file or directory", "configuration file"),
            ("Connection closed by 127.0.0.1 port 1", "try `ssh"),
        ] {
            let output = ProcessOutput { code: Some(255), stdout: vec![], stderr: said.as_bytes().to_vec() };
            let error = shell("ssh://h").judge(output).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("cannot reach ssh://h"), "{text}");
            let TargetError::Unreachable { hint, .. } = error else { panic!("{text}") };
            assert!(hint.contains(part), "{hint}");
        }
    }

    #[test]
    fn what_a_target_says_cannot_steer_the_terminal() {
        let output = ProcessOutput { code: Some(1), stdout: vec![], stderr: b"a\x1b[2Jb\xff\n\n".to_vec() };
        assert_eq!(output.last_words(), "a [2Jb\u{fffd}");
    }

    #[test]
    fn debug_shows_no_content() {
        let output = ProcessOutput { code: Some(1), stdout: b"hush".to_vec(), stderr: b"hush".to_vec() };
        assert!(!format!("{output:?}").contains("hush"));
    }
}
