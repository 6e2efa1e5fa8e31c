//! The server's configuration file, as a function of what the operator chose.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The request for a server's settings, which virga's account may send.
const SETTINGS_REQUEST: &str = "$SYS.REQ.SERVER.PING.VARZ";

/// The settings of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where it listens for virga.
    pub listen: SocketAddr,
    /// The other servers; none for a server that is alone.
    pub cluster: Option<Cluster>,
    /// The zone that it is in. Replicas of a stream are kept in different zones if the servers have any.
    pub zone: Option<String>,
    /// Directory of its data.
    pub store: PathBuf,
    /// Maximum size of its data (bytes).
    pub max_bytes: u64,
    /// First tokens of the subjects that virga uses.
    pub prefix: String,
    /// Password of the user `virga`, equal on all servers.
    pub password: String,
    /// Encryption for clients and between servers.
    pub tls: Option<Tls>,
}

/// How servers find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Where it listens for other servers.
    pub listen: SocketAddr,
    /// Addresses (`HOST:PORT`) at which the servers listen for each other. Its own may be among them.
    pub peers: Vec<String>,
    /// Password between servers, equal on all of them.
    pub password: String,
}

/// Certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// File with the server's certificate (PEM).
    pub certificate: PathBuf,
    /// File with its key (PEM).
    pub key: PathBuf,
    /// File with the authority that signs the certificates of servers and clients (PEM). It refuses everybody without a certificate of it.
    pub authority: PathBuf,
}

/// A value that cannot be written into the file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field} of the NATS server is {value:?}: {allowed}")]
pub struct InvalidConfiguration {
    /// What it is.
    pub field: &'static str,
    /// The value; none for a secret.
    pub value: String,
    /// The allowed values.
    pub allowed: &'static str,
}

impl Configuration {
    /// Returns the contents of the file.
    ///
    /// # Errors
    /// Fails if a value cannot be written into it.
    pub fn render(&self) -> Result<String, InvalidConfiguration> {
        let mut file = String::new();
        self.write(&mut file)?;
        Ok(file)
    }

    fn write(&self, file: &mut String) -> Result<(), InvalidConfiguration> {
        line(
            file,
            format_args!("# Written by virga at each start; changes are lost."),
        );
        line(
            file,
            format_args!("server_name: {}", word("name", &self.name)?),
        );
        line(file, format_args!("listen: \"{}\"", self.listen));
        line(file, format_args!("max_payload: 1MB"));
        let unique_tag = if let Some(zone) = &self.zone {
            line(
                file,
                format_args!("server_tags: [{}]", word("zone", &format!("az:{zone}"))?),
            );
            ", unique_tag: \"az:\""
        } else {
            ""
        };
        line(
            file,
            format_args!(
                "jetstream {{ store_dir: {}, sync_interval: always, max_mem: 64MB, max_file: {}{unique_tag} }}",
                path("data directory", &self.store)?,
                self.max_bytes,
            ),
        );
        self.write_accounts(file)?;
        if let Some(tls) = &self.tls {
            line(file, format_args!("tls {}", certificates(tls)?));
        }
        if let Some(cluster) = &self.cluster {
            self.write_cluster(file, cluster)?;
        }
        Ok(())
    }

    /// virga's account is its own, so that nobody else can write, delete or purge there. Of JetStream's requests, its user may not send
    /// those which delete a stream or a message.
    fn write_accounts(&self, file: &mut String) -> Result<(), InvalidConfiguration> {
        let prefix = subjects(&self.prefix)?;
        let password = secret("password", &self.password)?;
        line(file, format_args!("accounts {{"));
        line(
            file,
            format_args!(
                "  SYS {{ exports: [{{ service: \"{SETTINGS_REQUEST}\", response: stream, accounts: [VIRGA] }}] }}"
            ),
        );
        line(file, format_args!("  VIRGA {{"));
        line(file, format_args!("    jetstream: enabled"));
        line(
            file,
            format_args!(
                "    imports: [{{ service: {{ account: SYS, subject: \"{SETTINGS_REQUEST}\" }} }}]"
            ),
        );
        line(
            file,
            format_args!("    users: [{{ user: virga, password: {password}, permissions: {{"),
        );
        line(
            file,
            format_args!(
                "      publish: {{ allow: [\"{prefix}.>\", \"$JS.API.>\", \"$JS.ACK.>\", \"$JS.FC.>\", \"$O.>\", \"{SETTINGS_REQUEST}\"], \
                 deny: [\"$JS.API.STREAM.DELETE.>\", \"$JS.API.STREAM.MSG.DELETE.>\"] }}"
            ),
        );
        line(
            file,
            format_args!("      subscribe: {{ allow: [\"_INBOX.>\"] }}"),
        );
        line(file, format_args!("    }} }}]"));
        line(file, format_args!("  }}"));
        line(file, format_args!("}}"));
        line(file, format_args!("system_account: SYS"));
        Ok(())
    }

    fn write_cluster(
        &self,
        file: &mut String,
        cluster: &Cluster,
    ) -> Result<(), InvalidConfiguration> {
        let password = secret("cluster password", &cluster.password)?;
        line(file, format_args!("cluster {{"));
        line(file, format_args!("  name: virga"));
        line(file, format_args!("  listen: \"{}\"", cluster.listen));
        line(
            file,
            format_args!("  authorization {{ user: virga, password: {password} }}"),
        );
        let routes = cluster.peers.iter().map(|peer| {
            let (peer, password) = (address(peer)?, &cluster.password);
            Ok(format!("\"nats-route://virga:{password}@{peer}\""))
        });
        let routes = routes.collect::<Result<Vec<_>, _>>()?.join(", ");
        line(file, format_args!("  routes: [{routes}]"));
        if let Some(tls) = &self.tls {
            line(file, format_args!("  tls {}", certificates(tls)?));
        }
        line(file, format_args!("}}"));
        Ok(())
    }
}

fn line(file: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(file, "{text}");
}

fn certificates(tls: &Tls) -> Result<String, InvalidConfiguration> {
    Ok(format!(
        "{{ cert_file: {}, key_file: {}, ca_file: {}, verify: true }}",
        path("certificate", &tls.certificate)?,
        path("key", &tls.key)?,
        path("authority", &tls.authority)?,
    ))
}

/// Quotes a name.
fn word(field: &'static str, value: &str) -> Result<String, InvalidConfiguration> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if value.is_empty() || !value.chars().all(allowed) {
        return Err(InvalidConfiguration {
            field,
            value: value.to_owned(),
            allowed: "letters, digits, '-', '_' and '.' are allowed",
        });
    }
    Ok(format!("\"{value}\""))
}

fn subjects(value: &str) -> Result<&str, InvalidConfiguration> {
    let token = |token: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        !token.is_empty() && token.chars().all(allowed)
    };
    if value.split('.').all(token) {
        return Ok(value);
    }
    Err(InvalidConfiguration {
        field: "subject prefix",
        value: value.to_owned(),
        allowed: "words of letters, digits, '-' and '_' with '.' between them are allowed",
    })
}

/// Quotes a secret, which is also a part of URLs.
fn secret(field: &'static str, value: &str) -> Result<String, InvalidConfiguration> {
    if value.len() < 16 || !value.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(InvalidConfiguration {
            field,
            value: String::new(),
            allowed: "16 letters and digits or more are allowed",
        });
    }
    Ok(format!("\"{value}\""))
}

fn address(value: &str) -> Result<&str, InvalidConfiguration> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
    let port = value.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(1..))) && value.chars().all(allowed) {
        return Ok(value);
    }
    Err(InvalidConfiguration {
        field: "peer",
        value: value.to_owned(),
        allowed: "HOST:PORT is allowed",
    })
}

pub(crate) fn path(field: &'static str, value: &Path) -> Result<String, InvalidConfiguration> {
    let text = value
        .to_str()
        .filter(|text| !text.contains(char::is_control));
    let Some(text) = text.filter(|_| value.is_absolute()) else {
        return Err(InvalidConfiguration {
            field,
            value: value.display().to_string(),
            allowed: "an absolute path in UTF-8 without control characters is allowed",
        });
    };
    Ok(format!(
        "\"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Configuration {
        Configuration {
            name: "node-1".to_owned(),
            listen: "127.0.0.1:4222".parse().unwrap(),
            cluster: Some(Cluster {
                listen: "127.0.0.1:6222".parse().unwrap(),
                peers: vec!["a.example:6222".to_owned(), "[::1]:6222".to_owned()],
                password: "0123456789abcdef".to_owned(),
            }),
            zone: Some("z1".to_owned()),
            store: PathBuf::from("/var/lib/virga/nats"),
            max_bytes: 1 << 30,
            prefix: "acme.virga".to_owned(),
            password: "fedcba9876543210".to_owned(),
            tls: None,
        }
    }

    #[test]
    fn the_file_has_what_virga_demands_of_a_server() {
        let file = configuration().render().unwrap();
        for line in [
            "sync_interval: always",
            "server_tags: [\"az:z1\"]",
            "unique_tag: \"az:\"",
            "max_payload: 1MB",
            "\"acme.virga.>\"",
            "routes: [\"nats-route://virga:0123456789abcdef@a.example:6222\", \"nats-route://virga:0123456789abcdef@[::1]:6222\"]",
            "deny: [\"$JS.API.STREAM.DELETE.>\"",
        ] {
            assert!(file.contains(line), "{line}: {file}");
        }
        let alone = Configuration {
            cluster: None,
            zone: None,
            ..configuration()
        };
        let file = alone.render().unwrap();
        assert!(!file.contains("cluster") && !file.contains("az:"), "{file}");
    }

    #[test]
    fn values_that_would_change_the_file_are_refused_and_secrets_are_not_shown() {
        type Change = fn(&mut Configuration);
        let cases: [(&str, Change); 8] = [
            ("name", |c| c.name = "a\" }".to_owned()),
            ("name", |c| c.name.clear()),
            ("zone", |c| c.zone = Some("z 1".to_owned())),
            ("data directory", |c| c.store = PathBuf::from("relative")),
            ("subject prefix", |c| c.prefix = "a.>".to_owned()),
            ("password", |c| {
                c.password = "hush\"hush\"hush\"hush".to_owned()
            }),
            ("peer", |c| {
                c.cluster.as_mut().unwrap().peers = vec!["a".to_owned()]
            }),
            ("peer", |c| {
                c.cluster.as_mut().unwrap().peers = vec!["a@b:1".to_owned()]
            }),
        ];
        for (field, change) in cases {
            let mut changed = configuration();
            change(&mut changed);
            let refused = changed.render().unwrap_err();
            assert_eq!(refused.field, field);
            assert!(!refused.to_string().contains("hush"), "{refused}");
        }
        let mut quoted = configuration();
        quoted.store = PathBuf::from("/a \"b\"\\c");
        let file = quoted.render().unwrap();
        assert!(file.contains(r#"store_dir: "/a \"b\"\\c""#), "{file}");
    }
}
