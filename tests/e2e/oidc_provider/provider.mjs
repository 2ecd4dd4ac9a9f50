// An OpenID Provider that is not ours: npm's oidc-provider, told what to be over its standard input.
//
// Each line of input is one JSON command and gets one line of JSON back; the process ends with its
// input. `configure` makes a provider for the given clients and people, at the address that stays
// the same; `rotate` replaces the signing keys; `lock` makes a person unknown; `tally` tells how
// often something happened. Refresh tokens are rotated with every use, and one that comes back ends
// its grant. It keeps everything in memory and listens on loopback.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { Provider } from 'oidc-provider';

// The library's notices must not stand between the answers.
console.info = console.error;

const stores = new Map();

class Adapter {
  constructor(model) {
    this.model = model;
    if (!stores.has(model)) stores.set(model, new Map());
    this.rows = stores.get(model);
  }

  async upsert(id, payload, expiresIn) {
    const until = expiresIn ? Date.now() + expiresIn * 1000 : Infinity;
    this.rows.set(id, { payload, until });
  }

  async find(id) {
    const row = this.rows.get(id);
    return row && row.until > Date.now() ? row.payload : undefined;
  }

  async findByUid(uid) {
    return [...this.rows.values()].map((row) => row.payload).find((one) => one.uid === uid);
  }

  async findByUserCode() {
    return undefined;
  }

  async consume(id) {
    const row = this.rows.get(id);
    if (row) row.payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    this.rows.delete(id);
  }

  async revokeByGrantId(grantId) {
    for (const rows of stores.values()) {
      for (const [id, row] of rows) if (row.payload.grantId === grantId) rows.delete(id);
    }
  }
}

function newKey(type) {
  const pair = type === 'RSA'
    ? generateKeyPairSync('rsa', { modulusLength: 2048 })
    : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const alg = type === 'RSA' ? 'RS256' : 'ES256';
  return { ...pair.privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg };
}

const server = createServer((request, response) => handler(request, response));
let handler = (_request, response) => response.writeHead(503).end();
let issuer;
let keys = [newKey('RSA'), newKey('EC')];
let clients = [];
let people = {};
const locked = new Set();
const tally = { refreshed: 0, refused: 0, introspected: 0, keys: 0 };

const audienceOf = (resource) => ({
  scope: 'analytics:read data:read data:write unrelated',
  audience: resource,
  accessTokenTTL: 300,
  ...(resource.endsWith('/opaque')
    ? { accessTokenFormat: 'opaque' }
    : { accessTokenFormat: 'jwt', jwt: { sign: { alg: resource.endsWith('/ec') ? 'ES256' : 'RS256' } } }),
});

function accountOf(sub) {
  const person = Object.values(people).find((one) => one.sub === sub);
  if (!person || locked.has(sub)) return undefined;
  const { name, email } = person;
  return { accountId: sub, claims: () => ({ sub, name, email, email_verified: true }) };
}

function build() {
  const provider = new Provider(issuer, {
    adapter: Adapter,
    clients,
    jwks: { keys },
    cookies: { keys: ['only for tests'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    findAccount: (_ctx, sub) => accountOf(sub),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: () => true,
    pkce: { required: () => true },
    // Its own guard refuses loopback, where we are.
    fetch: (url, options) => globalThis.fetch(url, { ...options, dispatcher: undefined }),
    async loadExistingGrant(ctx) {
      const grant = new ctx.oidc.provider.Grant({
        clientId: ctx.oidc.client.clientId,
        accountId: ctx.oidc.session.accountId,
      });
      grant.addOIDCScope('openid email profile offline_access');
      for (const resource of [ctx.oidc.params.resource ?? []].flat()) {
        grant.addResourceScope(resource, audienceOf(resource).scope);
      }
      await grant.save();
      return grant;
    },
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      introspection: { enabled: true, allowedPolicy: async () => true },
      revocation: { enabled: true, allowedPolicy: async () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: async () => undefined,
        useGrantedResource: async () => true,
        getResourceServerInfo: async (_ctx, resource) => audienceOf(resource),
      },
      rpInitiatedLogout: {
        enabled: true,
        async logoutSource(ctx, form) {
          ctx.body = `<!doctype html><title>Sign out?</title>${form}
            <button form="op.logoutForm" name="logout" value="yes">Yes, sign me out</button>`;
        },
      },
    },
  });
  provider.on('grant.success', (ctx) => {
    if (ctx.oidc.params?.grant_type === 'refresh_token') tally.refreshed += 1;
  });
  provider.on('grant.error', (ctx) => {
    if (ctx.oidc.params?.grant_type === 'refresh_token') tally.refused += 1;
  });
  for (const event of ['server_error', 'backchannel.error', 'end_session.error']) {
    provider.on(event, (_ctx, error) => console.error(event, error));
  }
  const answer = provider.callback();
  handler = (request, response) => {
    if (request.url.startsWith('/token/introspection')) tally.introspected += 1;
    if (request.url.startsWith('/jwks')) tally.keys += 1;
    if (request.url.startsWith('/interaction/')) interact(provider, request, response);
    else answer(request, response);
  };
}

async function interact(provider, request, response) {
  try {
    const details = await provider.interactionDetails(request, response);
    let problem = '';
    if (request.method === 'POST') {
      let body = '';
      for await (const chunk of request) body += chunk;
      const form = new URLSearchParams(body);
      if (form.get('action') === 'cancel') {
        const refusal = { error: 'access_denied', error_description: 'the person cancelled' };
        await provider.interactionFinished(request, response, refusal);
        return;
      }
      const person = people[form.get('username')];
      if (person && person.password === form.get('password')) {
        await provider.interactionFinished(request, response, { login: { accountId: person.sub } });
        return;
      }
      problem = '<p role="alert">The user name or the password is wrong.</p>';
    }
    response.writeHead(problem ? 400 : 200, { 'content-type': 'text/html; charset=utf-8' });
    response.end(`<!doctype html><title>Sign in</title>${problem}
      <form method="post" action="/interaction/${details.uid}">
      <label>User name <input name="username"></label>
      <label>Password <input name="password" type="password"></label>
      <button name="action" value="login">Sign in</button>
      <button name="action" value="cancel">Cancel</button></form>`);
  } catch (error) {
    response.writeHead(400, { 'content-type': 'text/plain' }).end(String(error.message));
  }
}

const commands = {
  configure(given) {
    stores.clear();
    locked.clear();
    Object.keys(tally).forEach((name) => { tally[name] = 0; });
    ({ clients, people } = given);
    build();
    return { issuer };
  },
  rotate() {
    keys = [newKey('RSA'), newKey('EC')];
    build();
    return {};
  },
  lock({ sub }) {
    locked.add(sub);
    return {};
  },
  tally: () => tally,
};

server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    const command = JSON.parse(line);
    process.stdout.write(`${JSON.stringify(commands[command.do](command))}\n`);
  });
  lines.on('close', () => process.exit(0));
});
