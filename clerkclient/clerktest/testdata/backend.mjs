// Makes every call about invitations with Clerk's own client, against the sandbox at CLERK_API_URL.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

const { createClerkClient } = createRequire(process.env.CLERK_BACKEND + '/')('@clerk/backend')
const clerk = createClerkClient({ secretKey: 'sk_test_x', apiUrl: process.env.CLERK_API_URL })
const { invitations, users } = clerk

const ada = await invitations.createInvitation({
  emailAddress: 'Ada@example.com',
  publicMetadata: { planName: 'pro', nested: { a_b: 1 } },
  redirectUrl: 'https://example.com/welcome',
  expiresInDays: 7,
  notify: false,
  templateSlug: 'invitation',
})
assert.equal(ada.status, 'pending')
assert.equal(ada.emailAddress, 'Ada@example.com')
assert.deepEqual(ada.publicMetadata, { planName: 'pro', nested: { a_b: 1 } })

const made = await invitations.createInvitationBulk([
  { emailAddress: 'bob@example.com' },
  { emailAddress: 'cy@example.com', ignoreExisting: true },
])
assert.deepEqual(made.map(i => i.emailAddress).sort(), ['bob@example.com', 'cy@example.com'])

await assert.rejects(invitations.createInvitation({ emailAddress: 'ada@example.com' }), e => {
  assert.equal(e.status, 400)
  assert.equal(e.errors[0].code, 'duplicate_record')
  assert.deepEqual(e.errors[0].meta.emailAddresses, ['ada@example.com'])
  return true
})

const bob = made.find(i => i.emailAddress === 'bob@example.com')
assert.equal((await invitations.revokeInvitation(bob.id)).status, 'revoked')
await assert.rejects(invitations.revokeInvitation(bob.id), e => e.errors[0].code === 'invitation_already_revoked')

const first = await invitations.getInvitationList({ limit: 1, orderBy: '+created_at' })
assert.equal(first.totalCount, 2)
assert.equal(first.data[0].id, ada.id)
const second = await invitations.getInvitationList({ limit: 1, offset: 1, orderBy: '+created_at', status: ['pending'] })
assert.equal(second.data[0].emailAddress, 'cy@example.com')
assert.equal((await invitations.getInvitationList({ status: 'revoked', query: 'bob@' })).data[0].id, bob.id)

const deleted = await invitations.deleteInvitation(bob.id)
assert.equal(deleted.id, bob.id)
assert.equal(deleted.deleted, true)
await assert.rejects(invitations.deleteInvitation(bob.id), e => e.status === 404)

const list = await users.getUserList({ emailAddress: ['user@example.com', 'nobody@example.com'] })
assert.equal(list.totalCount, 1)
assert.equal(list.data[0].emailAddresses[0].emailAddress, 'user@example.com')
console.log('every call was answered')
