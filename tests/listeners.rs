//! Several listeners of several kinds: IPv4, IPv6, Unix sockets, sockets that systemd passes.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::program::{Program, field, run, run_with_sockets};
use common::{PATIENCE, RawClient, TestServer, masked, unmasked, upgrade_request, wait_until};
use rustix::process::Signal;
use wsgate::address::ListenAddress;
use wsgate::config::Mode;
use wsgate::limits::SHARED_ACCEPT_LEAD;

/// Any host that development mode answers for.
const HOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);
const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];

/// A directory for sockets. Their paths are bounded to 108 bytes, so it is in /tmp.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("wsgate-listeners-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("/tmp can be written");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn address(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn unix_open(path: &std::path::Path, target: &str) -> RawClient {
    let mut client = RawClient::connect_unix(path);
    client.upgrade(target, HOST);
    client
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are text")
}

#[test]
fn clients_of_all_listeners_meet_in_one_topic() {
    let directory = Directory::new();
    let path = directory.path("clients");
    let any6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let server = TestServer::with(|config| {
        let second = SocketAddr::from(([127, 0, 0, 2], 0));
        config.listen.extend([any6.into(), second.into(), ListenAddress::Unix { path: path.clone(), mode: 0o600 }]);
    });
    let mut subscribers = vec![unix_open(&path, "/topics/a")];
    for address in server.addresses().iter().filter_map(ListenAddress::tcp) {
        let mut client = RawClient::connect(address);
        client.upgrade("/topics/a", address);
        subscribers.push(client);
    }
    assert_eq!(subscribers.len(), 4);
    subscribers[0].send(&masked(0x81, b"from the file system"));
    for subscriber in &mut subscribers {
        subscriber.expect(&unmasked(0x81, b"from the file system"));
    }
}

#[test]
fn an_ipv6_address_leaves_its_port_of_ipv4_to_others() {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    // Another program may happen to have the same number in IPv4. If it were the gateway, it
    // would have it each time.
    let (_server, port, other) = (0..10)
        .find_map(|_| {
            let server = TestServer::with(|config| {
                config.mode = Mode::Production;
                config.listen = vec![any.into()];
            });
            let port = server.clients.port();
            let other = TcpListener::bind(("0.0.0.0", port)).ok()?;
            Some((server, port, other))
        })
        .expect("nobody has it");
    let mut client = RawClient::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    client.upgrade("/echo", HOST);
    TcpStream::connect(("127.0.0.1", port)).expect("the other one's");
    other.accept().expect("it is there");
}

#[test]
fn the_start_line_names_all_addresses() {
    let directory = Directory::new();
    let unix = directory.address("clients");
    let lists = [
        vec!["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--listen", &unix],
        vec!["--listen", "127.0.0.1:0,[::1]:0", "--listen", &unix],
    ];
    for list in lists {
        let program = Program::start_as(&[list.as_slice(), &ADMIN].concat(), |_| ());
        let clients: Vec<&str> = field(&program.start_line, "clients=").split(',').collect();
        let addresses: Vec<SocketAddr> = clients[..2].iter().map(|one| one.parse().expect(one)).collect();
        assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6(), "{}", program.start_line);
        assert!(addresses.iter().all(|address| address.port() != 0), "{}", program.start_line);
        assert_eq!(clients[2..], [unix.as_str()]);
        for address in addresses {
            RawClient::connect(address).upgrade("/echo", HOST);
        }
        unix_open(&directory.path("clients"), "/echo");
    }
}

/// The loops take from one queue; none of them is to hold all of what it brings.
#[test]
fn connections_of_a_unix_socket_are_spread_over_all_shards() {
    let directory = Directory::new();
    let path = directory.path("clients");
    let server = TestServer::with(|config| {
        config.shards = 3;
        config.listen.push(ListenAddress::Unix { path: path.clone(), mode: 0o600 });
    });
    let mut clients: Vec<_> = (0..200).map(|_| unix_open(&path, "/echo")).collect();
    let held: Vec<u64> = server.stats().iter().map(|stats| stats.connections.get()).collect();
    let (fewest, most) = (held.iter().min().copied().unwrap_or(0), held.iter().max().copied().unwrap_or(0));
    // A loop that is slow to wake may miss its turn a few times.
    assert!(fewest > 0 && most - fewest <= 4 * SHARED_ACCEPT_LEAD, "{held:?}");
    for client in &mut clients {
        client.send(&masked(0x82, &[7; 70_000]));
        client.expect(&unmasked(0x82, &[7; 70_000]));
    }
    drop(clients);
    server.wait_until("all have left", |server| server.sum(|stats| &stats.connections) == 0);
}

#[test]
fn a_burst_at_a_unix_socket_is_served_to_the_last() {
    let directory = Directory::new();
    let program = Program::start_as(
        &[&["--listen", &directory.address("clients"), "--shards", "2"], &ADMIN[..]].concat(),
        |_| (),
    );
    program.signal(Signal::STOP);
    // The kernel takes them; the program has not seen any.
    let count = 3 * wsgate::limits::ACCEPTS_PER_TURN_MAX;
    let path = directory.path("clients");
    let mut clients: Vec<_> = (0..count).map(|_| RawClient::connect_unix(&path)).collect();
    for client in &mut clients {
        client.send(&upgrade_request("/echo", HOST));
    }
    program.signal(Signal::CONT);
    for client in &mut clients {
        assert!(client.read_head().starts_with("HTTP/1.1 101 "));
    }
}

#[test]
fn the_file_of_a_unix_socket_has_its_permissions_and_goes_with_the_program() {
    let directory = Directory::new();
    let (path, address) = (directory.path("clients"), directory.address("clients"));
    for (suffix, mode) in [("", 0o660), ("?mode=600", 0o600), ("?mode=0666", 0o666)] {
        let arguments = ["--listen", &format!("{address}{suffix}"), ADMIN[0], ADMIN[1]];
        let mut program = Program::start_as(&arguments, |_| ());
        let permissions = std::fs::metadata(&path).expect("it is there").permissions();
        assert_eq!(permissions.mode() & 0o777, mode);
        program.signal(Signal::TERM);
        assert_eq!(program.wait().code(), Some(0));
        assert!(!path.exists());
    }
}

#[test]
fn a_socket_that_a_killed_program_left_is_replaced_and_one_that_is_served_is_not() {
    let directory = Directory::new();
    let (path, address) = (directory.path("clients"), directory.address("clients"));
    let arguments = ["--listen", &address, ADMIN[0], ADMIN[1]];
    let mut killed = Program::start_as(&arguments, |_| ());
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(path.exists(), "it had no time to clear up");
    let program = Program::start_as(&arguments, |_| ());
    unix_open(&path, "/echo");

    let refused = run(&arguments);
    let words = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(
        words.contains(&format!("cannot listen on {address} (listen): another gateway serves this path")),
        "{words}"
    );
    unix_open(&path, "/echo");
    drop(program);

    // Another program's, which holds no lock.
    std::fs::remove_file(&path).expect("it was killed again");
    let other = UnixListener::bind(&path).expect("a free path");
    let words = stderr(&run(&arguments));
    assert!(words.contains("somebody answers there"), "{words}");
    UnixStream::connect(&path).expect("it is still served");
    drop(other);

    std::fs::remove_file(&path).expect("listeners leave their files behind");
    std::fs::write(&path, "precious").expect("a free path");
    let words = stderr(&run(&arguments));
    assert!(words.contains("no socket"), "{words}");
    assert_eq!(std::fs::read(&path).expect("it stays"), b"precious");
}

#[test]
fn one_address_that_is_taken_refuses_the_start_and_leaves_nothing() {
    let directory = Directory::new();
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = holder.local_addr().expect("it is bound").to_string();
    let unix = directory.address("clients");
    let refused = run(&["--listen", "127.0.0.1:0", "--listen", &unix, "--listen", &taken, ADMIN[0], ADMIN[1]]);
    let words = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("cannot listen on {taken} (listen): ")) && words.contains("in use"), "{words}");
    assert!(!directory.path("clients").exists(), "what was bound before is gone");
}

#[test]
fn addresses_that_do_not_go_together_are_refused() {
    for (arguments, words) in [
        (["--listen", "127.0.0.1:9", "--listen", "127.0.0.1:9"], "each address once"),
        (["--listen", "unix:/tmp/a", "--listen", "unix:/tmp/a?mode=600"], "each address once"),
        (["--listen", "127.0.0.1:9,127.0.0.1:8", "--admin", "127.0.0.1:8"], "a port of its own"),
        (["--listen", "127.0.0.1:9", "--listen", "0.0.0.0:8"], "mode = \"production\""),
        (["--listen", "127.0.0.1:9", "--listen", "localhost:8"], "unix:/PATH"),
        (["--listen", "unix:relative", "--shards", "1"], "unix:/PATH"),
    ] {
        let refused = run(&arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(words), "{arguments:?}: {}", stderr(&refused));
    }
}

#[test]
fn sockets_that_systemd_passes_are_served_by_their_names() {
    let directory = Directory::new();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = tcp.local_addr().expect("it is bound");
    let (path, other) = (directory.path("passed"), directory.path("other"));
    let unix = UnixListener::bind(&path).expect("a free path");
    let unused = UnixListener::bind(&other).expect("a free path");
    let sockets = vec![(tcp.into(), "web"), (unix.into(), "local"), (unused.into(), "metrics")];
    let arguments = ["--shards", "2", "--listen", "systemd:web,systemd:local", ADMIN[0], ADMIN[1]];
    let mut program = Program::start_with_sockets(sockets, &arguments);
    assert_eq!(field(&program.start_line, "clients="), format!("{address},unix:{}", path.display()));
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = RawClient::connect(address);
        client.upgrade("/topics/a", address);
        clients.extend([client, unix_open(&path, "/topics/a")]);
    }
    clients[0].send(&masked(0x81, b"hello"));
    for client in &mut clients {
        client.expect(&unmasked(0x81, b"hello"));
    }
    drop(clients);
    program.signal(Signal::TERM);
    assert_eq!(program.wait().code(), Some(0));
    assert!(path.exists(), "the file belongs to whoever made it");
}

#[test]
fn without_a_name_all_passed_sockets_are_served() {
    let first = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let second = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addresses = [&first, &second].map(|listener| listener.local_addr().expect("it is bound"));
    let sockets = vec![(first.into(), "a"), (second.into(), "b")];
    let program = Program::start_with_sockets(sockets, &["--listen", "systemd", ADMIN[0], ADMIN[1]]);
    for address in addresses {
        RawClient::connect(address).upgrade("/echo", address);
    }
    assert_eq!(program.clients, addresses[0]);
}

#[test]
fn a_passed_socket_that_is_missing_or_open_to_others_refuses_the_start() {
    let refused = run(&["--listen", "systemd", ADMIN[0], ADMIN[1]]);
    let words = stderr(&refused);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("cannot listen on systemd (listen): no such socket was passed"), "{words}");

    let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let refused = run_with_sockets(vec![(listener(), "web")], &["--listen", "systemd:other", ADMIN[0], ADMIN[1]]);
    assert!(stderr(&refused).contains("cannot listen on systemd:other (listen): no such socket"), "{refused:?}");

    let everybody = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let address = everybody.local_addr().expect("it is bound").to_string();
    let arguments = ["--listen", "systemd", ADMIN[0], ADMIN[1]];
    let refused = run_with_sockets(vec![(everybody.into(), "web")], &arguments);
    let words = stderr(&refused);
    assert!(words.contains(&address) && words.contains("mode = \"production\""), "{words}");

    let connected = UnixStream::pair().expect("a pair").0;
    let words = stderr(&run_with_sockets(vec![(connected.into(), "web")], &arguments));
    assert!(words.contains("does not listen"), "{words}");
}

/// What a service manager hears.
struct Manager {
    socket: UnixDatagram,
    _directory: Directory,
    path: PathBuf,
}

impl Manager {
    fn new() -> Self {
        let directory = Directory::new();
        let path = directory.path("notify");
        let socket = UnixDatagram::bind(&path).expect("a free path");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option of every socket");
        Self { socket, _directory: directory, path }
    }

    fn hears(&self) -> String {
        let mut bytes = [0; 1000];
        let len = self.socket.recv(&mut bytes).expect("it is told in time");
        String::from_utf8(bytes[..len].to_vec()).expect("messages are text")
    }
}

#[test]
fn the_service_manager_hears_when_it_is_ready_and_when_it_stops() {
    let manager = Manager::new();
    let arguments = ["--listen", "127.0.0.1:0", ADMIN[0], ADMIN[1]];
    let mut program = Program::start_as(&arguments, |command| {
        command.env("NOTIFY_SOCKET", &manager.path);
    });
    assert_eq!(manager.hears(), "READY=1\n");
    // It is: connections were served before it was said.
    program.raw_open("/echo");
    program.signal(Signal::TERM);
    assert_eq!(manager.hears(), "STOPPING=1\n");
    assert_eq!(program.wait().code(), Some(0));
}

#[test]
fn the_service_manager_hears_when_a_reload_begins_and_when_it_is_over() {
    let manager = Manager::new();
    let arguments = ["--listen", "127.0.0.1:0", ADMIN[0], ADMIN[1]];
    let program = Program::start_as(&arguments, |command| {
        command.env("NOTIFY_SOCKET", &manager.path);
    });
    assert_eq!(manager.hears(), "READY=1\n");
    program.signal(Signal::HUP);
    let begun = manager.hears();
    let since = begun.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.strip_suffix('\n'));
    assert!(since.is_some_and(|usec| usec.parse::<u64>().is_ok_and(|usec| usec > 0)), "{begun}");
    assert_eq!(manager.hears(), "READY=1\n");
}

#[test]
fn the_watchdog_is_told_as_long_as_the_loops_turn() {
    let manager = Manager::new();
    let arguments = ["--listen", "127.0.0.1:0", ADMIN[0], ADMIN[1]];
    let program = Program::start_as(&arguments, |command| {
        command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "100000");
    });
    let told = std::cell::Cell::new(0);
    wait_until("the watchdog is told again and again", || {
        told.set(told.get() + u32::from(manager.hears() == "WATCHDOG=1\n"));
        told.get() == 3
    });
    drop(program);
}
