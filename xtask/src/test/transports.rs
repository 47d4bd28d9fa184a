//! Other ways to the engine under test: TCP, TLS with client certificates, and ssh, all on the loopback interface.
//!
//! socat and an ssh server of our own stand before the engine's socket, with keys that live as long as the tests.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::run;
use crate::testbed::packages;

/// Servers that end when this is dropped.
pub(super) struct Transports {
    folder: PathBuf,
    servers: Vec<Child>,
    env: Vec<(String, String)>,
}

impl Transports {
    /// Starts what can be started.
    pub(super) fn start(docker_host: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("kiln-transports-{}", std::process::id()));
        let mut transports = Self { folder, servers: Vec::new(), env: Vec::new() };
        let Some(socket) = docker_host.strip_prefix("unix://") else { return transports };
        let started = (|| {
            packages::install(&[("socat", "socat"), ("openssl", "openssl"), ("sshd", "openssh-server")])?;
            packages::install(&[("ssh", "openssh-client"), ("docker", "docker-cli")])?;
            fs::create_dir_all(&transports.folder)?;
            transports.tcp(socket)?;
            transports.tls(socket)?;
            transports.ssh(socket)
        })();
        if let Err(error) = started {
            eprintln!("not all ways to the engine can be tested: {error:#}");
        }
        transports
    }

    /// What tests are told.
    pub(super) fn env(&self) -> Vec<(String, String)> {
        self.env.clone()
    }

    fn tell(&mut self, name: &str, value: String) {
        self.env.push((name.to_owned(), value));
    }

    fn serve(&mut self, port: u16, command: &mut Command) -> Result<()> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.servers.push(child.with_context(|| format!("cannot run {}", command.get_program().display()))?);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                bail!("{} does not listen", command.get_program().display());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// One direction of a connection can end long before the other: socat must wait for it.
    fn socat(&mut self, port: u16, listen: String, socket: &str) -> Result<()> {
        let mut command = Command::new("socat");
        command.args(["-t", "60"]).arg(listen).arg(format!("UNIX-CONNECT:{socket}"));
        self.serve(port, &mut command)
    }

    fn tcp(&mut self, socket: &str) -> Result<()> {
        let port = free_port()?;
        self.socat(port, format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"), socket)?;
        self.tell("KILN_TEST_DOCKER_TCP", format!("tcp://127.0.0.1:{port}"));
        Ok(())
    }

    fn tls(&mut self, socket: &str) -> Result<()> {
        certificates(&self.folder)?;
        let (port, folder) = (free_port()?, self.folder.display().to_string());
        // With TLS 1.3 socat would reset the connection of a client without a certificate before saying why.
        let listen = format!(
            "OPENSSL-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,verify=1,openssl-max-proto-version=TLS1.2,cert={folder}/server.pem,\
             key={folder}/server-key.pem,cafile={folder}/ca.pem"
        );
        self.socat(port, listen, socket)?;
        let front = front(port)?;
        self.tell("KILN_TEST_DOCKER_TLS", format!("tcp://127.0.0.1:{front}"));
        self.tell("KILN_TEST_DOCKER_CERTS", folder);
        Ok(())
    }

    fn ssh(&mut self, socket: &str) -> Result<()> {
        let (port, folder) = (free_port()?, self.folder.clone());
        for name in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(name)))?;
        }
        let shown = folder.display();
        let path = std::env::var("PATH").unwrap_or_default();
        let server = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host\nAuthorizedKeysFile {shown}/user.pub\n\
             StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin prohibit-password\nSetEnv \"PATH={path}\"\n"
        );
        fs::write(folder.join("sshd.conf"), server)?;
        let key = fs::read_to_string(folder.join("host.pub"))?;
        fs::write(folder.join("known_hosts"), format!("[127.0.0.1]:{port} {key}"))?;
        let client = format!("IdentityFile {shown}/user\nIdentitiesOnly yes\nUserKnownHostsFile {shown}/known_hosts\n");
        fs::write(folder.join("ssh.conf"), client)?;
        // The user's own settings stay as they are: a program before the real one on the path brings ours.
        let real = Path::new("/usr/bin/ssh");
        let shim = folder.join("bin/ssh");
        fs::create_dir_all(folder.join("bin"))?;
        fs::write(&shim, format!("#!/bin/sh\nexec {} -F {shown}/ssh.conf \"$@\"\n", real.display()))?;
        fs::set_permissions(&shim, fs::Permissions::from_mode(0o755))?;
        fs::create_dir_all("/run/sshd").context("the ssh server needs /run/sshd")?;
        let mut sshd = Command::new("/usr/sbin/sshd");
        self.serve(port, sshd.arg("-D").arg("-f").arg(folder.join("sshd.conf")))?;
        self.tell("PATH", format!("{shown}/bin:{path}"));
        self.tell("KILN_TEST_DOCKER_SSH", format!("ssh://root@127.0.0.1:{port}{socket}"));
        Ok(())
    }
}

impl Drop for Transports {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Lets TLS through to a port, and answers plain HTTP as a daemon does: socat would just hang up.
fn front(behind: u16) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let pass = move |mut client: TcpStream| -> std::io::Result<()> {
        let mut first = [0];
        // A TLS record of a handshake begins with this byte; RFC 8446, section 5.1.
        if client.peek(&mut first)? == 1 && first[0] != 0x16 {
            // What is not read before the end would reset the connection, and the answer with it.
            let mut request = [0; 4096];
            let _ = client.read(&mut request)?;
            return client
                .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
        }
        let server = TcpStream::connect(("127.0.0.1", behind))?;
        let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
        let back = thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            to.shutdown(Shutdown::Write)
        });
        std::io::copy(&mut client, &mut &server)?;
        server.shutdown(Shutdown::Write)?;
        back.join().expect("copying does not panic")
    };
    // It ends with the process.
    thread::spawn(move || listener.incoming().flatten().for_each(|client| drop(thread::spawn(move || pass(client)))));
    Ok(port)
}

/// A port that nobody listened on a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// An authority, and a certificate each for the server and the client, as docker names them.
fn certificates(folder: &Path) -> Result<()> {
    let extensions = "[req]\ndistinguished_name=name\n[name]\n[ca]\nbasicConstraints=critical,CA:TRUE\n\
        keyUsage=critical,keyCertSign\n[end]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1\n";
    fs::write(folder.join("openssl.cnf"), extensions)?;
    for (name, key, kind) in [("ca", "ca-key", "ca"), ("server", "server-key", "end"), ("cert", "key", "end")] {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(folder).args(["req", "-x509", "-new", "-nodes", "-days", "2", "-config", "openssl.cnf"]);
        openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-extensions", kind]);
        openssl.args(["-subj", &format!("/CN=kiln test {name}")]);
        openssl.args(["-keyout", &format!("{key}.pem"), "-out", &format!("{name}.pem")]);
        if kind == "end" {
            openssl.args(["-CA", "ca.pem", "-CAkey", "ca-key.pem"]);
        }
        run(&mut openssl)?;
    }
    Ok(())
}
