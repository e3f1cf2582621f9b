use super::*;

/// Spellings of what must not be called. Names among them would lead home if anybody resolved them.
pub(crate) const BLOCKED: &[&str] = &[
    // This machine, as IPv4 in all the bases and lengths that parsers take.
    "https://127.0.0.1",
    "https://127.0.0.1:443/",
    "https://127.0.0.1:8443/v1",
    "https://127.1",
    "https://127.0.1",
    "https://127.255.255.254",
    "https://2130706433",
    "https://0x7f000001",
    "https://0X7F000001",
    "https://0x7f.0x0.0x0.0x1",
    "https://0x7f.1",
    "https://0177.0.0.1",
    "https://0177.0.0.01",
    "https://0177.1",
    "https://017700000001",
    "https://00000177.0.0.1",
    "https://127.0.0.0x1",
    "https://127.0.0.1.",
    "https://127.1.",
    "https://0x7f.1.",
    "https://0",
    "https://0.0.0.0",
    "https://0x0",
    "https://00.0",
    "https://0.0.0.1",
    // As IPv6, and as IPv4 inside it.
    "https://[::1]",
    "https://[::1]:443",
    "https://[0:0:0:0:0:0:0:1]",
    "https://[0000:0000:0000:0000:0000:0000:0000:0001]",
    "https://[::]",
    "https://[::ffff:127.0.0.1]",
    "https://[::ffff:7f00:1]",
    "https://[::FFFF:7F00:0001]",
    "https://[0:0:0:0:0:ffff:127.0.0.1]",
    "https://[::127.0.0.1]",
    "https://[::7f00:1]",
    "https://[64:ff9b::127.0.0.1]",
    "https://[64:ff9b::7f00:1]",
    "https://[64:ff9b:1::127.0.0.1]",
    "https://[2002:7f00:1::]",
    "https://[2002:a00:1::1]",
    "https://[2001:0:7f00:1::1]",
    "https://[2001:0:808:808::80ff:fffe]",
    "https://[fe80::1]",
    "https://[fe80::1%25eth0]",
    "https://[fe80::1%eth0]",
    "https://[::1%25lo]",
    "https://[fc00::1]",
    "https://[fd12:3456:789a::1]",
    "https://[fec0::1]",
    "https://[ff02::1]",
    "https://[2001:db8::1]",
    "https://[2001:20::1]",
    "https://[3fff::1]",
    "https://[5f00::1]",
    "https://[2606:4700:4700::1111]",
    // Networks that are somebody's own, and the metadata services of clouds.
    "https://10.0.0.1",
    "https://10.1",
    "https://167772161",
    "https://172.16.0.1",
    "https://172.31.255.255",
    "https://192.168.0.1",
    "https://192.168.1",
    "https://3232235777",
    "https://100.64.0.1",
    "https://100.127.255.254",
    "https://169.254.169.254",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166",
    "https://0xa9fea9fe",
    "https://0xA9.0xFE.0xA9.0xFE",
    "https://0251.0376.0251.0376",
    "https://169.254.43518",
    "https://169.16689662",
    "https://[::ffff:169.254.169.254]",
    "https://[::ffff:a9fe:a9fe]",
    "https://[64:ff9b::169.254.169.254]",
    "https://[fd00:ec2::254]",
    "https://100.100.100.200",
    "https://192.0.0.192",
    "https://192.0.2.1",
    "https://192.88.99.1",
    "https://198.18.0.1",
    "https://198.51.100.1",
    "https://203.0.113.1",
    "https://224.0.0.1",
    "https://240.0.0.1",
    "https://255.255.255.255",
    // Public, but without a name.
    "https://8.8.8.8",
    "https://134744072",
    "https://1.1",
    "https://256.256.256.256",
    "https://1.2.3.4.5",
    "https://0x100000000",
    // Names of this machine and of what is near.
    "https://localhost",
    "https://LOCALHOST",
    "https://localhost:443",
    "https://localhost.",
    "https://localhost..",
    "https://a.localhost",
    "https://localhost.localdomain",
    "https://printer.local",
    "https://metadata.google.internal",
    "https://metadata",
    "https://kubernetes.default.svc.cluster.local",
    "https://host.docker.internal",
    "https://wiki.corp",
    "https://router.lan",
    "https://nas.home",
    "https://box.home.arpa",
    "https://1.0.0.127.in-addr.arpa",
    "https://hidden.onion",
    "https://intranet",
    "https://api.example.com.",
    // Letters that look like others, or become others.
    "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "https://ｌｏｃａｌｈｏｓｔ",
    "https://loc\u{ad}alhost",
    "https://①②⑦.⓪.⓪.①",
    "https://１２７.０.０.１",
    "https://127。0。0。1",
    "https://127．0．0．1",
    "https://169｡254｡169｡254",
    "https://%6c%6f%63%61%6c%68%6f%73%74",
    "https://%31%32%37.0.0.1",
    "https://127%2e0%2e0%2e1",
    // Users, who hide the host behind them.
    "https://api.example.com@127.0.0.1",
    "https://api.example.com:443@127.0.0.1/",
    "https://user:password@api.example.com",
    "https://user@api.example.com",
    "https://@api.example.com",
    "https://:@api.example.com",
    "https://127.0.0.1@api.example.com",
    "https://127.0.0.1%00@api.example.com",
    "https://api.example.com\\@127.0.0.1",
    "https://127.0.0.1\\.example.com",
    "https:\\\\127.0.0.1",
    // Fragments, spaces, and what parsers throw away.
    "https://127.0.0.1#@api.example.com",
    "https://api.example.com#@127.0.0.1",
    "https://api.example.com/#",
    "https://127.0.0.1?@api.example.com",
    "https://127.0.0.1 ",
    " https://api.example.com",
    "https://127.0.0.1\t",
    "https://127.0.\n0.1",
    "https://api.exam\tple.com",
    "https://api.example.com\0",
    "ht\ntps://api.example.com",
    "https:127.0.0.1",
    "https:/127.0.0.1",
    "https:///127.0.0.1",
    "https:api.example.com",
    "//127.0.0.1",
    "127.0.0.1",
    "api.example.com",
    // Other ports and other schemes.
    "https://api.example.com:80",
    "https://api.example.com:22",
    "https://api.example.com:6379",
    "https://api.example.com:8080",
    "https://api.example.com:0",
    "https://api.example.com:65536",
    "https://api.example.com:443443",
    "http://api.example.com",
    "http://api.example.com:443",
    "HTTP://api.example.com",
    "ftp://api.example.com",
    "file:///etc/passwd",
    "gopher://api.example.com",
    "unix:///run/salon.sock",
    "data:text/plain,x",
    "javascript://api.example.com/%0aalert(1)",
    "blob:https://api.example.com",
    "https://",
    "https://.",
    "https://..",
    "https://.example.com",
    "https://api..example.com",
    "",
];

#[test]
fn no_spelling_of_a_near_address_gets_through() {
    assert!(BLOCKED.len() >= 120, "{} spellings", BLOCKED.len());
    let rules = Rules::default();
    for text in BLOCKED {
        assert_eq!(judge(text, &rules), Err(Blocked), "{text:?}");
    }
    let long = format!("https://{}.example.com", "a.".repeat(130));
    assert_eq!(judge(&long, &rules), Err(Blocked), "longer than a name can be");
    assert_eq!(judge(&format!("https://api.example.com/{}", "a".repeat(LONGEST)), &rules), Err(Blocked));
}

#[test]
fn what_the_world_calls_its_servers_does() {
    for (text, called) in [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("HTTPS://API.OpenAI.com:443/v1", "https://api.openai.com/v1"),
        ("https://llm.example.org:8443/a?api-version=2", "https://llm.example.org:8443/a?api-version=2"),
        ("https://bücher.example", "https://xn--bcher-kva.example/"),
        ("https://10-0-0-1.example.com/v1", "https://10-0-0-1.example.com/v1"),
    ] {
        let judged = judge(text, &Rules::default()).expect(text);
        assert_eq!((judged.url.as_str(), judged.near), (called, Near::Public), "{text}");
    }
}

#[test]
fn an_administrator_may_name_hosts_of_the_local_network() {
    let named = ["gpu.lan", "ollama.lan:11434", "10.1.2.3", "[fd00::1]:8000", "localhost:9000", "127.0.0.1:9001"];
    let rules = Rules::new(named).expect("rules");
    for (text, near) in [
        ("http://gpu.lan/v1", Some(Near::Network)),
        ("https://gpu.lan:1234/v1", Some(Near::Network)),
        ("http://ollama.lan:11434/v1", Some(Near::Network)),
        ("http://ollama.lan/v1", None),
        ("http://10.1.2.3:8000", Some(Near::Network)),
        ("http://0xa.1.2.3:8000", Some(Near::Network)),
        ("http://10.1.2.4:8000", None),
        ("http://[fd00::1]:8000", Some(Near::Network)),
        ("http://[fd00::1]:8001", None),
        ("http://localhost:9000", Some(Near::Machine)),
        ("http://localhost:9001", None),
        ("http://127.0.0.1:9001", Some(Near::Machine)),
        ("http://127.0.0.1:9000", None),
        ("http://user@gpu.lan/v1", None),
        ("http://evil.gpu.lan/v1", None),
        ("http://api.example.com/v1", None),
        ("ftp://gpu.lan/v1", None),
    ] {
        assert_eq!(judge(text, &rules).ok().map(|judged| judged.near), near, "{text}");
    }
    for bad in ["", "gpu.lan/v1", "user@gpu.lan", "gpu.lan:x", "gpu.lan:0", "gpu lan", "*.lan", "[::1", "a#b", "?"] {
        assert!(Rules::new([bad]).is_err(), "{bad}");
    }
    let metadata = Rules::new(["169.254.169.254", "0.0.0.0", "[fe80::1]", "224.0.0.1"]).expect("rules");
    for text in ["http://169.254.169.254", "http://0.0.0.0", "http://[fe80::1]", "http://224.0.0.1"] {
        assert_eq!(judge(text, &metadata), Err(Blocked), "nobody can mean {text}");
    }
}

#[test]
fn one_bad_address_spoils_all_that_a_name_resolves_to() {
    let address = |text: &str| text.parse::<IpAddr>().expect(text);
    let vetted =
        |addresses: &[&str], near| vet(&addresses.iter().map(|text| address(text)).collect::<Vec<_>>(), near).is_ok();
    assert!(vetted(&["93.184.216.34", "2606:2800:220:1::1"], Near::Public));
    assert!(!vetted(&["93.184.216.34", "127.0.0.1"], Near::Public));
    assert!(!vetted(&["10.0.0.1"], Near::Public));
    assert!(!vetted(&[], Near::Public));
    assert!(vetted(&["10.0.0.1", "fd00::1", "100.64.1.1", "93.184.216.34"], Near::Network));
    assert!(!vetted(&["127.0.0.1"], Near::Network), "a name of the network is not this machine");
    assert!(!vetted(&["169.254.169.254"], Near::Network));
    assert!(vetted(&["127.0.0.1", "::1"], Near::Machine));
    assert!(!vetted(&["169.254.169.254"], Near::Machine));
}

#[test]
fn addresses_of_the_public_internet_are_told_from_the_others() {
    for text in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.88.98.255",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2001:0:808:808::f7f7:f7f7",
        "2001:200::1",
        "2001:4860::1",
    ] {
        assert!(is_global(text.parse().expect(text)), "{text}");
    }
    for text in [
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.255",
        "192.0.2.0",
        "192.88.99.255",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.0",
        "203.0.113.255",
        "224.0.0.0",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::808:808",
        "100::1",
        "2001:db8::1",
        "2001:2::1",
        "2001:10::1",
        "2001:0:7f00:1::f7f7:f7f7",
        "2001:0:808:808::80ff:fffe",
        "2002:a00:1::",
        "2002:7f00:1::1",
        "3fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ffff::1",
    ] {
        assert!(!is_global(text.parse().expect(text)), "{text}");
    }
}
