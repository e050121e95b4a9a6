<?php
function page(string $heading, array $rows): void
{
    header('Content-Type: text/html; charset=utf-8');
    echo '<!doctype html><title>', htmlspecialchars($heading), '</title><h1>', htmlspecialchars($heading), '</h1><ul>';
    foreach ($rows as $row) {
        printf('<li id="%s">%s</li>', htmlspecialchars($row['mark']), htmlspecialchars($row['title']));
    }
    echo '</ul>';
}
