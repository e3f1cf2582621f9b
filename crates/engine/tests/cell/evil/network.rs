//! Two hundred ways to somebody else.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::time::Duration;

use super::misdeed;

/// `places`: ports of the host (numbers), names of abstract sockets (`@name`), and paths of sockets.
pub fn network(places: &[String]) {
    let mut targets: Vec<SocketAddr> = Vec::new();
    let known: [Ipv4Addr; 8] = [
        [169, 254, 169, 254],
        [1, 1, 1, 1],
        [8, 8, 8, 8],
        [10, 0, 0, 1],
        [172, 17, 0, 1],
        [192, 168, 0, 1],
        [100, 100, 100, 200],
        [127, 0, 0, 53],
    ]
    .map(Ipv4Addr::from);
    for ip in known {
        targets.extend([22, 53, 80, 443, 2375, 5432, 6379, 8080].map(|port| SocketAddr::from((ip, port))));
    }
    let six = ["2606:4700:4700::1111", "fd00:ec2::254", "fe80::1", "::1", "::ffff:169.254.169.254"];
    for ip in six.map(|ip| ip.parse::<Ipv6Addr>().unwrap()) {
        targets.extend([53, 80, 443, 8080].map(|port| SocketAddr::from((ip, port))));
    }
    for place in places.iter().filter_map(|place| place.parse::<u16>().ok()) {
        targets.push((Ipv4Addr::LOCALHOST, place).into());
        targets.push((Ipv6Addr::LOCALHOST, place).into());
        targets.push((Ipv4Addr::UNSPECIFIED, place).into());
    }
    for target in &targets {
        misdeed(&format!("tcp {target}"), TcpStream::connect_timeout(target, Duration::from_millis(300)));
        misdeed(&format!("udp {target}"), datagram(*target));
    }
    for name in
        ["example.com:443", "localhost.localdomain:80", "metadata.google.internal:80", "host.docker.internal:80"]
    {
        misdeed(&format!("name {name}"), name.to_socket_addrs().map(|found| found.count()));
    }
    for place in places.iter().filter(|place| place.parse::<u16>().is_err()) {
        let name = place.rsplit('/').next().unwrap();
        let (stream, packets) = match place.strip_prefix('@') {
            Some(name) => {
                let address = UnixAddr::from_abstract_name(name).unwrap();
                (UnixStream::connect_addr(&address), UnixDatagram::unbound().and_then(|s| s.connect_addr(&address)))
            }
            None => (UnixStream::connect(place), UnixDatagram::unbound().and_then(|s| s.connect(place))),
        };
        misdeed(&format!("unix {name}"), stream);
        misdeed(&format!("unix datagram {name}"), packets);
    }
    let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let names: Vec<_> = interfaces.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    misdeed("another interface than our own", names.iter().find(|name| **name != "lo").ok_or("none"));
}

/// To send is nothing; it must not arrive. On our own loopback nobody listens, which the next call hears.
fn datagram(target: SocketAddr) -> std::io::Result<usize> {
    let any: SocketAddr =
        if target.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    socket.send(b"hello?")?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    socket.recv(&mut [0; 16])
}
