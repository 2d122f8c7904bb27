// A producer and a worker on BullMQ, as its documentation shows them: a queue with a limiter for each of Clerk's
// limits, and a job for each call. A call that Clerk refuses with 429 stops its queue for as long as Clerk says.
//
//   node bullmq.mjs add SOCKET   adds the jobs that are posted to a Unix socket: {queue, jobs: [{name, data} …]}
//   node bullmq.mjs work         makes the calls
import { createServer } from 'node:http';
import { Queue, RateLimitError, UnrecoverableError, Worker } from 'bullmq';

const env = process.env;
const redis = new URL(env.REDIS_URL);
const connection = { host: redis.hostname, port: Number(redis.port) };

// A limit of Usher's settings, N/duration in seconds, as BullMQ has it. 0 is none.
function limiter(limit) {
  if (limit === '0') return undefined;
  const [, max, seconds] = limit.match(/^(\d+)\/(\d+)s$/);
  return { max: Number(max), duration: 1000 * seconds };
}

const queues = {
  invite: { path: '/invitations', limit: env.USHER_LIMIT_CREATE },
  bulk: { path: '/invitations/bulk', limit: env.USHER_LIMIT_BULK },
};

function add(socket) {
  for (const name of Object.keys(queues)) queues[name].queue = new Queue(name, { connection });
  createServer(async (request, response) => {
    try {
      let text = '';
      for await (const chunk of request.setEncoding('utf8')) text += chunk;
      const { queue, jobs } = JSON.parse(text);
      if (jobs.length === 1) await queues[queue].queue.add(jobs[0].name, jobs[0].data);
      else await queues[queue].queue.addBulk(jobs);
      response.end();
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  }).listen(socket);
}

function work() {
  for (const [name, { path, limit }] of Object.entries(queues)) {
    const queue = new Queue(name, { connection });
    const call = async job => {
      const response = await fetch(env.CLERK_API_URL + path, {
        method: 'POST',
        headers: { 'Authorization': `Bearer ${env.CLERK_SECRET_KEY}`, 'Content-Type': 'application/json' },
        body: JSON.stringify(job.data),
      });
      await response.arrayBuffer(); // so that the connection is used again
      if (response.status === 429) {
        await queue.rateLimit(1000 * response.headers.get('retry-after'));
        throw new RateLimitError();
      }
      if (!response.ok) throw new UnrecoverableError(`Clerk answers ${response.status}`);
    };
    const worker = new Worker(name, call, {
      connection, concurrency: 200, limiter: limiter(limit), removeOnComplete: { count: 0 },
    });
    worker.on('error', error => console.error(error));
    worker.on('failed', (job, error) => console.error(error.message));
  }
}

if (!globalThis.fetch) throw new Error(`Node 18 or newer is needed, this is ${process.version}`);
if (process.argv[2] === 'add') add(process.argv[3]);
else work();
