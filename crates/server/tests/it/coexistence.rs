//! Several virgas on one host, and what one leaves to the others when it is killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use testkit::{Client, Options, Server, eventually};

use crate::{VIRGA, server};

/// Says where it runs: its user, and its control groups.
const WHERE: &str = "\
import os
def main_handler(event, context):
    return [os.getuid(), open('/proc/self/cgroup').read()]
";

fn apart() -> Server {
    Server::with(
        VIRGA,
        Options {
            apart: true,
            ..Options::default()
        },
    )
}

/// The user of an instance, and the name of its virga's control groups.
fn place(client: &Client) -> (u64, String) {
    let answer: Value = client.answer("where", &json!({}));
    let groups = answer[1].as_str().expect("text");
    let name = groups.split(['/', '\n']).find(|part| {
        let number = part.strip_prefix("virga-").map(str::parse::<u32>);
        *part == "virga" || matches!(number, Some(Ok(_)))
    });
    let name = name.unwrap_or_else(|| panic!("{groups}")).to_owned();
    (answer[0].as_u64().expect("a number"), name)
}

fn idle(client: &Client) {
    eventually("it is frozen", || {
        client.metric("virga_instances{state=\"frozen\"}") == Some(1.0)
    });
}

#[test]
fn servers_without_options_choose_disjoint_resources() {
    let mut first = apart();
    let client = first.client();
    client.create("where", WHERE, json!({}));
    let (user, group) = place(&client);
    idle(&client);
    let second = apart();
    let other = second.client();
    other.create("where", WHERE, json!({}));
    let (their_user, their_group) = place(&other);
    assert_ne!(group, their_group);
    let window = |user: u64| (user - 2_000_000) / 4096;
    assert_ne!(window(user), window(their_user));
    // The first one's instance serves on, and so does a new one.
    assert_eq!(place(&client).0, user);
    client.ok("DeleteFunction", &json!({"FunctionName": "where"}));
    client.create("where", WHERE, json!({}));
    assert_eq!(place(&client).1, group);
    // What a killed one had is free, for those who ask for it, too.
    first.kill();
    let third = Server::with(
        VIRGA,
        Options {
            apart: true,
            flags: vec!["--cgroup".into(), group.clone()],
            ..Options::default()
        },
    );
    third.expect("skipping user ids that processes of an earlier run or of another virga run as");
    let client = third.client();
    client.create("where", WHERE, json!({}));
    assert_eq!(place(&client).1, group);
    assert_eq!(place(&other), (their_user, their_group));
}

#[test]
fn resource_claimed_by_another_server_is_refused_by_name() {
    let first = server();
    let client = first.client();
    client.create("where", WHERE, json!({}));
    let user = client.answer("where", &json!({}))[0].as_u64();
    let user = user.expect("a number");
    idle(&client);
    let data = tempfile::tempdir().expect("a directory");
    let refused = |flags: &[&str]| {
        let mut command = Server::command("timeout");
        command.args(["20", VIRGA, "up", "--network", "internal"]);
        command.args(["--listen", "127.0.0.1:0", "--bucket-listen", "off"]);
        command.arg("--data").arg(data.path()).args(flags);
        let output = command.output().expect("the binary");
        assert!(!output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stderr).expect("text");
        let owner = format!("process {}", first.pid());
        assert!(said.contains(&owner), "{said}");
        said
    };
    let group = first.cgroup();
    let said = refused(&["--cgroup", &group]);
    assert!(said.contains(&format!("--cgroup {group}: ")), "{said}");
    let near = (user - 3).to_string();
    let said = refused(&["--uid-base", &near, "--uid-count", "16"]);
    assert!(said.contains(&format!("--uid-base {near}: ")), "{said}");
    assert_eq!(client.answer("where", &json!({}))[0], user);
    client.create("more", WHERE, json!({}));
    assert_eq!(client.invoke("more", &json!({}))["InvokeResult"], 0);
}

/// A network of its own for a host of many virgas, gone with this.
struct Net(String);

impl Net {
    fn make() -> Self {
        let name = format!("virga-apart-{}", std::process::id());
        let net = Self(name);
        net.ip(&["netns", "add", &net.0]);
        net.ip(&["-n", &net.0, "link", "set", "lo", "up"]);
        net
    }

    fn ip(&self, args: &[&str]) -> String {
        let output = Command::new("ip").args(args).output().expect("ip");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// A virga whose functions may go out of it.
    fn virga(&self, data: &Path, flags: &[&str]) -> Result<Outbound, String> {
        // Not by `ip netns exec`, which shows another /sys, without control groups.
        let mut child = Server::command("nsenter")
            .arg(format!("--net=/run/netns/{}", self.0))
            .args([VIRGA, "up", "--data"])
            .arg(data)
            .args(["--listen", "127.0.0.1:0", "--bucket-listen", "off"])
            .args(["--dns", "192.0.2.1", "--uid-count", "64"])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(fs::File::create(data.with_extension("log")).expect("a log"))
            .spawn()
            .expect("the binary");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        let _ = BufReader::new(output).read_line(&mut line);
        let virga = Outbound(child);
        if line.starts_with("virga is ready") {
            Ok(virga)
        } else {
            Err(fs::read_to_string(data.with_extension("log")).unwrap_or_default())
        }
    }

    /// Addresses of the interfaces that virgas have made.
    fn addresses(&self) -> Vec<String> {
        let text = self.ip(&["-n", &self.0, "-4", "-o", "address", "show"]);
        let lines = text.lines().filter(|line| line.contains("-up"));
        lines
            .filter_map(|line| line.split_whitespace().nth(3).map(str::to_owned))
            .collect()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.ip(&["netns", "delete", &self.0]);
    }
}

struct Outbound(Child);

impl Drop for Outbound {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[test]
fn networks_of_two_servers_have_distinct_addresses_and_interfaces() {
    let net = Net::make();
    let place = tempfile::tempdir().expect("a directory");
    let data = |name: &str| place.path().join(name);
    let _first = net.virga(&data("a"), &[]).expect("it starts");
    let before = net.addresses();
    assert_eq!(before.len(), 1, "{before:?}");
    let _second = net.virga(&data("b"), &[]).expect("it starts beside it");
    let both = net.addresses();
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both.contains(&before[0]), "{both:?}");
    assert_ne!(both[0], both[1]);
    let range = ["--network-range", "198.18.0.0/16"];
    let said = net.virga(&data("c"), &range).err().expect("it is taken");
    assert!(said.contains("--network-range 198.18.0.0/16: "), "{said}");
    assert_eq!(net.addresses(), both);
}

/// Programs that virga runs beside itself under a hidden subcommand.
fn wardens(virga: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of = |process: &u32| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}"));
        let stat = read("stat").unwrap_or_default();
        let rest = stat.rsplit(')').next().unwrap_or_default();
        rest.split_whitespace().nth(1) == Some(&virga.to_string())
            && read("cmdline").is_ok_and(|line| line.contains("__warden"))
    };
    numbers.filter(of).collect()
}

#[test]
fn frozen_instances_end_when_virga_is_killed() {
    let mut server = server();
    server.expect("the warden has ended");
    let client = server.client();
    client.create("where", WHERE, json!({}));
    client.answer("where", &json!({}));
    idle(&client);
    assert!(!server.processes().is_empty());
    server.kill();
    eventually("nothing of it is left", || server.leftovers().is_empty());
    // Nor does it last where the one who sees to that was killed before.
    server.restart();
    let client = server.client();
    client.answer("where", &json!({}));
    idle(&client);
    let before = wardens(server.pid());
    assert_eq!(before.len(), 1, "{before:?}");
    let killed = Command::new("kill")
        .args(["-9", &before[0].to_string()])
        .status();
    assert!(killed.is_ok_and(|status| status.success()));
    eventually("another watches", || {
        let now = wardens(server.pid());
        !now.is_empty() && now != before
    });
    server.kill();
    eventually("nothing of it is left", || server.leftovers().is_empty());
    // After an orderly end the warden kills nothing, nor of a server that starts at once.
    server.restart();
    assert!(server.terminate().success());
    server.restart();
    assert!(server.client().answer("where", &json!({})).is_array());
}

#[test]
fn warden_holds_no_descriptor_of_virga() {
    let server = server();
    let warden = wardens(server.pid())[0];
    eventually("it has closed all but three", || {
        fs::read_dir(format!("/proc/{warden}/fd")).is_ok_and(|open| open.count() <= 3)
    });
}
