<?php
// Invites one address and a list over HTTP, with PHP 8 and nothing else. enqueue serve must run; USHER_API_TOKEN is one
// of its tokens.

$api = getenv('USHER_API_URL') ?: 'http://127.0.0.1:8081';

class Refused extends Exception
{
    public function __construct(public array $problem)
    {
        parent::__construct($problem['detail']);
    }
}

// call makes a request, and repeats it while the server says that it should.
function call(string $method, string $path, ?string $body = null, string $type = '', string $key = ''): array
{
    global $api;
    for ($tries = 0; ; $tries++) {
        $headers = ['Authorization: Bearer ' . getenv('USHER_API_TOKEN')];
        if ($type !== '') {
            $headers[] = "Content-Type: $type";
        }
        if ($key !== '') {
            $headers[] = "Idempotency-Key: $key";
        }
        $context = stream_context_create(['http' => [
            'method' => $method, 'header' => $headers, 'content' => $body ?? '', 'ignore_errors' => true, 'timeout' => 70,
        ]]);
        $answer = json_decode(file_get_contents($api . $path, false, $context), true);
        preg_match('/ (\d{3})/', $http_response_header[0], $status);
        if ((int) $status[1] < 400) {
            return $answer;
        }
        $again = 0;
        foreach ($http_response_header as $header) {
            if (preg_match('/^Retry-After: (\d+)/i', $header, $found)) {
                $again = (int) $found[1];
            }
        }
        if ($again === 0 || $tries === 5) {
            throw new Refused($answer);
        }
        sleep($again);
    }
}

// ended waits until a task has its outcome.
function ended(string $id): array
{
    do {
        $task = call('GET', "/v1/tasks/$id?wait=30s");
    } while (!in_array($task['state'], ['done', 'dead', 'cancelled'], true));
    return $task;
}

// The key makes it safe to repeat: an order that invites once uses the order's number.
$task = call('POST', '/v1/invitations', json_encode(['email_address' => 'php@example.com']), 'application/json',
    'order-4711-php');
$csv = "email_address,redirect_url\nphp-1@example.com,/welcome\nphp-2@example.com,/welcome\n";
$list = call('POST', '/v1/campaigns/php/recipients', $csv, 'text/csv', 'list-1-php');

echo 'invitation: ', ended($task['task_id'])['state'], "\n";
$done = ended($list['task_id']);
echo "list: {$done['sent']} sent, {$done['dead']} dead\n";

// What is wrong is named, each with its place; nothing is done then.
try {
    call('POST', '/v1/invitations', '{"email_address": "nobody"}', 'application/json');
} catch (Refused $refused) {
    $fault = $refused->problem['errors'][0];
    echo "refused: {$refused->problem['status']} {$fault['pointer']}: {$fault['reason']}\n";
}
