//! An nginx of a test's own, on loopback, in a temporary directory, that passes everything on to one daemon. It ends
//! with the thread that started it, however that ends.

use super::broker::{bound, free_ports};
use super::eventually;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use tempfile::TempDir;

/// A proxy.
pub(crate) struct Nginx {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    directory: TempDir,
    server: Child,
}

impl Nginx {
    /// A proxy in front of a daemon that takes connections, with these lines in its `location`; `None` where nginx is
    /// not installed.
    pub(crate) fn before(daemon: SocketAddr, lines: &str) -> Option<Self> {
        let upgrade = "proxy_http_version 1.1;\nproxy_set_header Upgrade $http_upgrade;\n\
                       proxy_set_header Connection \"upgrade\";\nproxy_set_header Host $host;\n";
        Self::with(daemon, &format!("{upgrade}{lines}"))
    }

    /// The same with these lines alone beside `proxy_pass`, so that nothing is said of upgrades without them.
    pub(crate) fn with(daemon: SocketAddr, lines: &str) -> Option<Self> {
        let location = format!("location / {{\nproxy_pass http://{daemon};\n{lines}\n}}\n");
        Self::of(&format!("server {{\nlisten 8081;\n{location}}}\n"))
    }

    /// A proxy with this in its block `http`; the port 8081 is replaced by a free one of loopback.
    pub(crate) fn of(http: &str) -> Option<Self> {
        // Debian has it where only root looks.
        let path = std::env::var_os("PATH")?;
        let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        let Some(program) =
            places.map(|place| place.join("nginx")).find(|program| program.exists())
        else {
            super::skip("nginx", "nginx is not installed");
            return None;
        };
        let directory = TempDir::with_prefix("fanfare-nginx-").unwrap();
        let [port] = free_ports();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let place = directory.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
            .concat();
        assert!(http.contains("listen 8081;"), "{http}");
        let http = http.replace("listen 8081;", &format!("listen {address};"));
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{http}}}\n"
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let output = File::create(directory.path().join("output")).unwrap();
        let words = [
            "-p",
            directory.path().to_str().unwrap(),
            "-e",
            "stderr",
            "-c",
            file.to_str().unwrap(),
        ];
        let mut command = bound(program.to_str().unwrap(), &words);
        let server = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        let mut nginx = Self { address, directory, server };
        eventually("nginx runs", || {
            let ended = nginx.server.try_wait().unwrap();
            assert!(ended.is_none(), "nginx ended: {}", nginx.log());
            TcpStream::connect(address).is_ok()
        });
        Some(nginx)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        if std::thread::panicking() {
            eprintln!("the log of nginx:\n{}", self.log());
        }
    }
}
