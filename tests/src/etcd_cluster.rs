//! Real etcds that are more than one member on an open port: three members, TLS with client certificates, users.

use etcd_client::{Certificate, Client, ConnectOptions, Identity, Permission, PermissionType, TlsOptions};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::etcd::program;
use crate::kafka::block_on;
use crate::process::{Process, last_lines};
use crate::{scratch, wait};

/// Members that know each other. Dropping it kills them.
pub struct Cluster {
    home: tempfile::TempDir,
    members: Vec<Member>,
    secure: bool,
    more: Vec<String>,
    root: Option<String>,
}

struct Member {
    port: u16,
    peer: u16,
    process: Option<Process>,
}

impl Cluster {
    /// So many members, started. `more`: further flags of etcd.
    pub fn start(members: usize, secure: bool, more: &[&str]) -> Cluster {
        let home = scratch::dir("etcd-cluster");
        let member = |_| Member { port: scratch::port(), peer: scratch::port(), process: None };
        let mut cluster = Cluster {
            members: (0..members).map(member).collect(),
            home,
            secure,
            more: more.iter().map(|flag| (*flag).to_owned()).collect(),
            root: None,
        };
        if secure {
            certificates(cluster.home.path());
        }
        for i in 0..members {
            cluster.launch(i);
        }
        cluster.until_answers();
        cluster
    }

    /// URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        let scheme = if self.secure { "https" } else { "http" };
        self.members.iter().map(|member| format!("{scheme}://127.0.0.1:{}", member.port)).collect()
    }

    /// A file of its certificates: `ca.pem`, `agent.pem`, `agent.key`, `root.pem`, `root.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// SIGKILL to one member.
    pub fn kill(&mut self, member: usize) {
        self.members[member].process.take().expect("the member runs").kill();
    }

    /// SIGSTOP: its connections stay open and nothing answers.
    pub fn freeze(&self, member: usize) {
        self.members[member].process.as_ref().expect("the member runs").signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self, member: usize) {
        self.members[member].process.as_ref().expect("the member runs").signal(Signal::CONT);
    }

    /// Starts a member again on its data.
    pub fn launch(&mut self, member: usize) {
        let mut command = self.command(member);
        let log = self.log(member);
        self.members[member].process = Some(Process::start("etcd", &mut command, &log));
    }

    /// Waits until writes are taken.
    pub fn until_answers(&self) {
        wait::until("etcd takes writes", || last_lines(&self.log(0), 20), || self.try_put("-/ready", "1").ok());
    }

    /// Writes a key, over whichever member answers.
    pub fn put(&self, key: &str, value: &str) {
        wait::until(&format!("{key} is written"), || last_lines(&self.log(0), 20), || self.try_put(key, value).ok());
    }

    /// A key's value.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        wait::until(
            "etcd is read",
            || last_lines(&self.log(0), 20),
            || {
                block_on(async {
                    let answer = self.client().await.ok()?.get(key, None).await.ok()?;
                    Some(answer.kvs().first().map(|pair| pair.value().to_vec()))
                })
            },
        )
    }

    fn try_put(&self, key: &str, value: &str) -> Result<(), etcd_client::Error> {
        block_on(async {
            let mut client = self.client().await?;
            let put = client.put(key, value, None);
            let put = tokio::time::timeout(std::time::Duration::from_secs(3), put).await;
            put.map_err(|_| etcd_client::Error::WatchError("no answer".to_owned()))?.map(drop)
        })
    }

    /// Users `root` and `agent`, the latter with the rights that docs/operations.md gives to an agent with this name.
    pub fn with_users(&mut self, prefix: &str, node: &str) {
        let done: Result<(), etcd_client::Error> = block_on(async {
            let mut client = self.client().await?;
            client.user_add("root", "root-password", None).await?;
            client.role_add("root").await?;
            client.user_grant_role("root", "root").await?;
            client.user_add("agent", "agent-password", None).await?;
            client.role_add("agent").await?;
            for folder in ["entries", "modules", "releases", "blobs"] {
                let all = Permission::new(PermissionType::Read, format!("{prefix}{folder}/"));
                client.role_grant_permission("agent", all.with_prefix()).await?;
            }
            for own in ["nodes", "seen"] {
                let key = Permission::new(PermissionType::Readwrite, format!("{prefix}{own}/{node}"));
                client.role_grant_permission("agent", key).await?;
            }
            client.user_grant_role("agent", "agent").await?;
            client.auth_enable().await?;
            Ok(())
        });
        done.expect("etcd makes users");
        self.root = Some("root-password".to_owned());
    }

    async fn client(&self) -> Result<Client, etcd_client::Error> {
        let mut options = ConnectOptions::new();
        if let Some(password) = &self.root {
            options = options.with_user("root", password);
        }
        if self.secure {
            let read = |name: &str| std::fs::read_to_string(self.file(name)).expect("the certificate was made");
            let identity = Identity::from_pem(read("root.pem"), read("root.key"));
            let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read("ca.pem"))).identity(identity);
            options = options.with_tls(tls);
        }
        Client::connect(self.endpoints(), Some(options)).await
    }

    fn log(&self, member: usize) -> PathBuf {
        self.home.path().join(format!("etcd-{member}.log"))
    }

    fn command(&self, member: usize) -> Command {
        let peer = |member: &Member| format!("http://127.0.0.1:{}", member.peer);
        let own = &self.members[member];
        let mut etcd = Command::new(program());
        etcd.arg("--name").arg(format!("m{member}"));
        etcd.arg("--data-dir").arg(self.home.path().join(format!("data-{member}")));
        etcd.args(["--unsafe-no-fsync", "--log-level=warn"]);
        let client = &self.endpoints()[member];
        etcd.args(["--listen-client-urls", client, "--advertise-client-urls", client]);
        etcd.args(["--listen-peer-urls", &peer(own), "--initial-advertise-peer-urls", &peer(own)]);
        let all: Vec<String> = self.members.iter().enumerate().map(|(i, one)| format!("m{i}={}", peer(one))).collect();
        etcd.args(["--initial-cluster", &all.join(",")]);
        if self.secure {
            etcd.arg("--client-cert-auth");
            for (flag, file) in
                [("--cert-file", "server.pem"), ("--key-file", "server.key"), ("--trusted-ca-file", "ca.pem")]
            {
                etcd.arg(flag).arg(self.file(file));
            }
        }
        etcd.args(&self.more);
        etcd
    }
}

/// A certificate authority, and certificates of a server on 127.0.0.1 and of the users `agent` and `root`.
fn certificates(dir: &Path) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(dir).output().expect("openssl is there");
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let root = ["req", "-x509", "-days", "2", "-subj", "/CN=test", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[&root[..], &key[..]].concat());
    for (name, usage) in [("server", "serverAuth"), ("agent", "clientAuth"), ("root", "clientAuth")] {
        let [own, request, pem] = ["key", "csr", "pem"].map(|kind| format!("{name}.{kind}"));
        let subject = format!("/CN={name}");
        openssl(&[&["req", "-subj", &subject, "-keyout", &own, "-out", &request], &key[..]].concat());
        let extensions = format!("{name}.ext");
        // etcd's gateway is a client of its own server.
        let usage = if usage == "serverAuth" { "serverAuth,clientAuth" } else { usage };
        let text = format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n");
        std::fs::write(dir.join(&extensions), text).expect("a small file can be written");
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            &extensions,
            "-out",
            &pem,
        ]);
    }
}
