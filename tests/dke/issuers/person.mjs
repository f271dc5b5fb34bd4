// A person with a browser, who opens an address that a program has shown, and says
// yes to whatever is asked there: person.mjs ADDRESS NAME. Prints the last page.
const [address, name] = process.argv.slice(-2);
const cookies = new Map([['person', name]]);

async function open(url, form) {
    const headers = { cookie: [...cookies].map((cookie) => cookie.join('=')).join('; ') };
    const asked = form ? { method: 'POST', body: new URLSearchParams(form) } : {};
    const answer = await fetch(url, { ...asked, headers, redirect: 'manual' });
    for (const cookie of answer.headers.getSetCookie()) {
        const [, key, value] = /^([^=]+)=([^;]*)/.exec(cookie);
        cookies.set(key, value);
    }
    const next = answer.headers.get('location');
    return next ? open(new URL(next, url)) : answer.text();
}

// What a page with a question has in its form, whoever answers it.
const hidden = (page) =>
    [...page.matchAll(/name="([^"]+)" value="([^"]*)"/g)].map(([, key, value]) => [key, value]);

let page = await open(address);
const form = new URL('/device', address);
while (page.includes('name="xsrf"')) {
    page = await open(form, [...hidden(page), ['confirm', 'yes']]);
}
console.log(page);
