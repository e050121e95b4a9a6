<?php
// The page of every peer that runs PHP: one file included, a list of fifty rows escaped and hashed, 2.5 KB in all.
require __DIR__ . '/layout.php';

$rows = [];
for ($number = 1; $number <= 50; $number++) {
    $title = "Entry $number of <{{name}}>";
    $rows[] = ['title' => $title, 'mark' => substr(md5($title), 0, 8)];
}
page('{{marker}}', $rows);
