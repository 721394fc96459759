//! A real browser without a screen: Debian's Chromium, driven over WebDriver (W3C) by Debian's chromedriver, both inside a site's network
//! namespace and cgroup, with which they end. Root needs `--no-sandbox`; the profile is a folder of its own.

use crate::{
    Doing, Fault, Running, Site,
    wait::{eventually_within, holds},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

/// Both programs and the packages that have them.
const PROGRAMS: [(&str, &str); 2] =
    [("/usr/bin/chromium", "chromium"), ("/usr/bin/chromedriver", "chromium-driver")];
/// Port of the driver, in the site's own network namespace.
const PORT: u16 = 9515;
/// A busy machine starts a browser slowly.
const PATIENCE: Duration = Duration::from_secs(120);
/// Key of an element in WebDriver's answers (W3C WebDriver, 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window.
#[derive(Debug)]
pub struct Browser<'site> {
    site: &'site Site,
    session: String,
    profile: PathBuf,
    _driver: Running,
}

impl<'site> Browser<'site> {
    /// Starts it in the site, with a window of this size in pixels.
    ///
    /// # Errors
    /// A package is missing, or the browser does not start; says what it said.
    pub fn start(site: &'site Site, (width, height): (u32, u32)) -> Result<Self, Fault> {
        for (program, package) in PROGRAMS {
            if !Path::new(program).exists() {
                return Err(Fault::new(format!("{program} is not there; install the package {package}")));
            }
        }
        let name = format!("browser-{}-{}", std::process::id(), site.name);
        let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tmp").join(name);
        fs::create_dir_all(&profile).doing("make the browser's folder")?;
        let profile = profile.canonicalize().doing("find the browser's folder")?;
        let folder = profile.display().to_string();
        let mut command = site.command(PROGRAMS[1].0)?;
        command.arg(format!("--port={PORT}")).env("HOME", &folder).env("TMPDIR", &folder);
        let driver = site.launch(command)?;
        let mut browser = Self { site, session: String::new(), profile, _driver: driver };
        eventually_within(PATIENCE, "the browser's driver", || {
            browser.command("GET", "/status", &Value::Null)
        })?;
        let wanted = capabilities(&folder, width, height);
        let answer = browser.command("POST", "/session", &wanted)?;
        let session = answer["sessionId"].as_str().ok_or_else(|| Fault::new(answer.to_string()))?;
        browser.session = session.to_owned();
        Ok(browser)
    }

    /// Opens an address.
    ///
    /// # Errors
    /// Nothing answers there.
    pub fn open(&self, url: &str) -> Result<(), Fault> {
        self.post("/url", &json!({"url": url})).map(drop)
    }

    /// What a script returns, which runs as the body of a function in the page.
    ///
    /// # Errors
    /// It threw.
    pub fn script(&self, body: &str, arguments: &[Value]) -> Result<Value, Fault> {
        self.post("/execute/sync", &json!({"script": body, "args": arguments}))
    }

    /// Waits until a script returns something else than null, false or an empty list.
    ///
    /// # Errors
    /// It did not in time; says what the page shows.
    pub fn wait_for(&self, what: &str, body: &str, arguments: &[Value]) -> Result<Value, Fault> {
        eventually_within(PATIENCE, what, || {
            let found = self.script(body, arguments).map_err(|fault| fault.to_string())?;
            let nothing = [Value::Null, json!(false), json!([]), json!("")];
            let shown = || self.text().unwrap_or_else(|fault| fault.to_string());
            holds(!nothing.contains(&found), if nothing.contains(&found) { shown() } else { String::new() })
                .map(|()| found)
        })
    }

    /// All text that the page shows.
    ///
    /// # Errors
    /// There is no page.
    pub fn text(&self) -> Result<String, Fault> {
        let text = self.script("return document.body.innerText", &[])?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Clicks the element that a CSS selector finds, as a person would: it must be in sight.
    ///
    /// # Errors
    /// There is none, or something covers it.
    pub fn click(&self, selector: &str) -> Result<(), Fault> {
        let element = self.element(selector)?;
        self.post(&format!("/element/{element}/click"), &json!({})).map(drop)
    }

    /// Types into it.
    ///
    /// # Errors
    /// There is none, or it takes no text.
    pub fn write(&self, selector: &str, text: &str) -> Result<(), Fault> {
        let element = self.element(selector)?;
        self.post(&format!("/element/{element}/clear"), &json!({}))?;
        self.post(&format!("/element/{element}/value"), &json!({"text": text})).map(drop)
    }

    /// Presses a key (W3C WebDriver, 17.4.2: special keys are single code points) wherever the focus is.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn press(&self, key: char) -> Result<(), Fault> {
        let action = |kind: &str| json!({"type": kind, "value": key.to_string()});
        let keys = json!({"type": "key", "id": "keyboard", "actions": [action("keyDown"), action("keyUp")]});
        self.post("/actions", &json!({"actions": [keys]})).map(drop)
    }

    /// Sets the size of the window in pixels, and whether the page shall be dark.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn look(&self, (width, height): (u32, u32), dark: bool) -> Result<(), Fault> {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.developer("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.developer("Emulation.setEmulatedMedia", &features).map(drop)
    }

    /// Saves a picture of the window as PNG and says its size in bytes.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn screenshot(&self, path: &Path) -> Result<usize, Fault> {
        let answer = self.command("GET", &format!("/session/{}/screenshot", self.session), &Value::Null)?;
        let picture = decode(answer.as_str().unwrap_or_default());
        fs::write(path, &picture).doing(format!("write {}", path.display()))?;
        Ok(picture.len())
    }

    /// What the browser's console got since the last time: errors and warnings, those of the Content-Security-Policy too.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn console(&self) -> Result<Vec<String>, Fault> {
        let lines = self.post("/se/log", &json!({"type": "browser"}))?;
        Ok(lines
            .as_array()
            .into_iter()
            .flatten()
            .map(|line| format!("{}: {}", line["level"], line["message"]))
            .collect())
    }

    /// Addresses that the browser asked for since the last time, for whatever reason; what needs no network is left out, as
    /// the files of its own first page.
    ///
    /// # Errors
    /// The browser is gone.
    pub fn requests(&self) -> Result<Vec<String>, Fault> {
        let lines = self.post("/se/log", &json!({"type": "performance"}))?;
        let events = lines.as_array().into_iter().flatten();
        let events = events.filter_map(|line| serde_json::from_str::<Value>(line["message"].as_str()?).ok());
        let sent = events.filter(|event| event["message"]["method"] == "Network.requestWillBeSent");
        let urls =
            sent.filter_map(|event| Some(event["message"]["params"]["request"]["url"].as_str()?.to_owned()));
        Ok(urls.filter(|url| !["chrome:", "data:"].iter().any(|own| url.starts_with(own))).collect())
    }

    fn element(&self, selector: &str) -> Result<String, Fault> {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}))?;
        found[ELEMENT]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Fault::new(format!("no {selector}: {found}")))
    }

    fn developer(&self, command: &str, parameters: &Value) -> Result<Value, Fault> {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, Fault> {
        self.command("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Result<Value, Fault> {
        let answer = self.site.namespace().inside(|| exchange(method, path, body))?;
        let answer = answer.doing(format!("ask the browser for {path}"))?;
        let value: Value =
            serde_json::from_str(&answer).map_err(|error| Fault::new(format!("{error}: {answer}")))?;
        match value["value"]["error"].as_str() {
            Some(error) => Err(Fault::new(format!("{path} {body}: {error}: {}", value["value"]["message"]))),
            None => Ok(value["value"].clone()),
        }
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // In order where it still answers; else the cgroup of the site takes it down.
        let _ = self.command("DELETE", &format!("/session/{}", self.session), &Value::Null);
        let _ = fs::remove_dir_all(&self.profile);
    }
}

fn capabilities(profile: &str, width: u32, height: u32) -> Value {
    let arguments = [
        "--headless=new".to_owned(),
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-background-networking".to_owned(),
        "--no-first-run".to_owned(),
        "--no-proxy-server".to_owned(),
        "--hide-scrollbars".to_owned(),
        format!("--user-data-dir={profile}/profile"),
        format!("--window-size={width},{height}"),
    ];
    let chrome =
        json!({"binary": PROGRAMS[0].0, "args": arguments, "perfLoggingPrefs": {"enableNetwork": true}});
    json!({"capabilities": {"alwaysMatch": {
        "browserName": "chrome", "goog:chromeOptions": chrome,
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        "timeouts": {"script": 60_000, "pageLoad": 60_000, "implicit": 0},
    }}})
}

/// One request; the driver says how long the body of its answer is, and keeps the connection.
fn exchange(method: &str, path: &str, body: &Value) -> io::Result<String> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + &body).as_bytes())?;
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        let header = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        length = header.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(length);
        line.clear();
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Base64 (RFC 4648); what is not of its alphabet is left out.
fn decode(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0);
    for digit in text.bytes().filter_map(|byte| ALPHABET.iter().position(|one| *one == byte)) {
        bits = bits << 6 | u32::try_from(digit).unwrap_or_default();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap_or_default());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn decodes_what_rfc_4648_shows() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(decode(text), bytes.as_bytes());
        }
    }
}
