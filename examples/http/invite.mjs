// Invites one address and a list over HTTP, with the fetch that Node has (18 or newer). enqueue serve must run;
// USHER_API_TOKEN is one of its tokens.
const api = process.env.USHER_API_URL ?? 'http://127.0.0.1:8081'

class Refused extends Error {
  constructor(problem) {
    super(problem.detail)
    this.problem = problem
  }
}

// call makes a request, and repeats it while the server says that it should.
async function call(method, path, { type, body, key } = {}) {
  for (let tries = 0; ; tries++) {
    const headers = { Authorization: `Bearer ${process.env.USHER_API_TOKEN}` }
    if (type) headers['Content-Type'] = type
    if (key) headers['Idempotency-Key'] = key
    const answer = await fetch(api + path, { method, headers, body })
    if (answer.ok) return answer.json()
    const problem = await answer.json()
    const again = Number(answer.headers.get('Retry-After'))
    if (!again || tries === 5) throw new Refused(problem)
    await new Promise((wait) => setTimeout(wait, again * 1000))
  }
}

// ended waits until a task has its outcome.
async function ended(id) {
  for (;;) {
    const task = await call('GET', `/v1/tasks/${id}?wait=30s`)
    if (['done', 'dead', 'cancelled'].includes(task.state)) return task
  }
}

const count = Number(process.env.COUNT ?? 1)
const rows = Number(process.env.ROWS ?? 2)

// The key makes it safe to repeat: an order that invites once uses the order's number.
const tasks = await Promise.all(
  Array.from({ length: count }, (_, i) =>
    call('POST', '/v1/invitations', {
      type: 'application/json',
      key: `order-${i}-node`,
      body: JSON.stringify({ email_address: `node${i}@example.com`, public_metadata: { plan: 'pro' } }),
    }),
  ),
)
console.log(`invited: ${tasks.length}, of which ${tasks.filter((task) => task.exists).length} were before`)

let csv = 'email_address,redirect_url\n'
for (let i = 0; i < rows; i++) csv += `node-list-${i}@example.com,/welcome\n`
const list = await call('POST', '/v1/campaigns/node/recipients', { type: 'text/csv', key: 'list-1-node', body: csv })

const states = {}
for (const { task_id } of [...tasks, list]) {
  const { state } = await ended(task_id)
  states[state] = (states[state] ?? 0) + 1
}
console.log('ended:', JSON.stringify(states))
const { sent, dead } = await ended(list.task_id)
console.log(`list: ${sent} sent, ${dead} dead`)

// What is wrong is named, each with its place; nothing is done then.
try {
  await call('POST', '/v1/invitations', { type: 'application/json', body: '{"email_address": "nobody"}' })
} catch (error) {
  if (!(error instanceof Refused)) throw error
  const { status, errors } = error.problem
  console.log(`refused: ${status}`, errors.map((fault) => `${fault.pointer}: ${fault.reason}`).join('; '))
}
