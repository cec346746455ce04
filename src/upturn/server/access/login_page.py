"""LoginPage: the page on which a browser is given a token, without scripts or things from afar."""

import base64
import hashlib
from html import escape
from urllib.parse import quote

_STYLE = """
:root { color-scheme: light dark; --ink: #16202b; --soft: #5c6b7a; --paper: #f4f6f8;
  --card: #fff; --line: #d5dce3; --accent: #0b6bcb; --bad: #b3261e }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf2; --soft: #9aa9b8; --paper: #10161c;
  --card: #19222b; --line: #31404e; --accent: #4aa3ff; --bad: #ff8a80 } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { width: min(24rem, 100vw - 2rem); padding: 2rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 12px }
h1 { margin: 0 0 .25rem; font-size: 1.4rem }
p { margin: 0 0 1.25rem; color: var(--soft) }
label { display: block; margin-bottom: .35rem; font-weight: 600 }
input { width: 100%; padding: .6rem .7rem; font: inherit; color: inherit; background: var(--paper);
  border: 1px solid var(--line); border-radius: 8px }
input:focus-visible, button:focus-visible, a:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 2px }
button, .other { display: block; width: 100%; margin-top: 1rem; padding: .65rem; font: inherit;
  font-weight: 600; text-align: center; text-decoration: none; border-radius: 8px;
  border: 1px solid var(--accent); background: var(--accent); color: var(--card); cursor: pointer }
.other { background: none; color: var(--accent) }
.problem { color: var(--bad) }
code { font-size: .9em }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
PAGE_HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_HASH}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


def login_page(
    *, back: str, problem: str = "", name: str = "", csrf: str = "", provider: str = ""
) -> bytes:
    """The page: a form for a token, or for leaving when `name` is logged in.

    `back` is where to go afterwards; `provider` is whom else one can log in with.
    """
    body = _leave(name, csrf) if name else _enter(back, problem, provider)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Log in · Upturn</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>Upturn</h1>{body}</main></body></html>"
    ).encode()


def _enter(back: str, problem: str, provider: str) -> str:
    said = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    other = ""
    if provider:
        href = escape(f"/login/oidc?next={quote(back, safe='')}")
        other = f'<a class="other" href="{href}">Log in with {escape(provider)}</a>'
    return (
        "<p>Log in with a token of this server. An admin makes one with "
        f"<code>upturn tokens create</code>.</p>{said}"
        '<form method="post" action="/login">'
        f'<input type="hidden" name="next" value="{escape(back)}">'
        '<label for="token">Token</label>'
        '<input id="token" name="token" type="password" autocomplete="current-password" '
        'spellcheck="false" required autofocus placeholder="upt_…">'
        f"<button>Log in</button></form>{other}"
    )


def _leave(name: str, csrf: str) -> str:
    return (
        f"<p>You are logged in as <strong>{escape(name)}</strong>.</p>"
        '<form method="post" action="/logout">'
        f'<input type="hidden" name="csrf" value="{escape(csrf)}">'
        "<button>Log out</button></form>"
    )
